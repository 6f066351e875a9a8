// What the page finds out about a file before it sends a byte of it.
import { t } from "../texts";

export interface Look {
  duration_s: number;
  width: number;
  height: number;
  picture: string; // the first frame, as a small data URL
}

const PICTURE_WIDTH = 192; // pixels
const PATIENCE_MS = 8000;
// What an MP4 or MOV starts with: the same boxes as in runner/mp4/kinds.py.
const FIRST_BOXES = [
  ...["ftyp", "moov", "mdat", "free", "skip", "wide", "pnot", "uuid"],
  ...["styp", "sidx", "moof", "pdin", "meta", "emsg", "prft"],
];

/** Return why a file cannot be taken, or null. Its content decides; its name and its type do not. */
export async function objection(file: File): Promise<string | null> {
  if (file.size === 0) return t.look.empty;
  const head = await file
    .slice(4, 8)
    .text()
    .catch(() => null);
  if (head === null) return t.look.unreadable;
  if (!FIRST_BOXES.includes(head)) return t.look.noVideo;
  return null;
}

/** Return what the browser can tell; null for what it cannot play, which does not mean that FFmpeg cannot. */
export async function look(file: File): Promise<Look | null> {
  const video = document.createElement("video");
  const url = URL.createObjectURL(file);
  try {
    video.muted = true;
    video.preload = "auto";
    video.src = url;
    await happens(video, "loadeddata");
    video.currentTime = Math.min(0.1, video.duration / 2);
    await happens(video, "seeked");
    return {
      duration_s: video.duration,
      width: video.videoWidth,
      height: video.videoHeight,
      picture: draw(video),
    };
  } catch {
    return null;
  } finally {
    video.removeAttribute("src");
    video.load(); // gives the decoder back
    URL.revokeObjectURL(url);
  }
}

function happens(video: HTMLVideoElement, what: "loadeddata" | "seeked"): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const patience = setTimeout(reject, PATIENCE_MS);
    video.addEventListener(what, resolve, { once: true });
    video.addEventListener("error", reject, { once: true });
    video.addEventListener(what, () => clearTimeout(patience), { once: true });
  });
}

function draw(video: HTMLVideoElement): string {
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, PICTURE_WIDTH / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.7);
}
