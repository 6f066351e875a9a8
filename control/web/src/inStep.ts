// Two videos by one clock: one leads, the other shows what belongs to the same moment.

const FAR_S = 0.25; // jump; nearer, the pace closes the gap
const PACE_MAX = 0.2; // how much faster or slower that may be
const LOOK_MS = 100;

/**
 * Keep `follower` in step with `leader`, which plays `speed` times as fast as what the follower shows: its
 * second t belongs to the follower's second t x speed. Returns how to end it.
 */
export function keepInStep(leader: HTMLVideoElement, follower: HTMLVideoElement, speed: number): () => void {
  const due = () => Math.min(leader.currentTime * speed, follower.duration || 0);
  const jump = () => {
    follower.currentTime = due();
    if (!leader.paused) void follower.play().catch(() => undefined); // taken back by a pause
  };
  const pause = () => {
    follower.pause();
    follower.currentTime = due();
  };
  const look = () => {
    if (leader.paused || follower.seeking || !follower.duration) return;
    const ahead = follower.currentTime - due();
    if (Math.abs(ahead) > FAR_S) return jump();
    const pace = 1 - Math.max(-PACE_MAX, Math.min(PACE_MAX, 2 * ahead));
    follower.playbackRate = leader.playbackRate * speed * pace;
  };
  const on: [HTMLVideoElement, string, () => void][] = [
    [leader, "play", jump],
    [leader, "pause", pause],
    [leader, "seeking", jump],
    [follower, "loadedmetadata", jump],
  ];
  for (const [video, event, act] of on) video.addEventListener(event, act);
  const timer = setInterval(look, LOOK_MS);
  jump();
  return () => {
    clearInterval(timer);
    for (const [video, event, act] of on) video.removeEventListener(event, act);
  };
}
