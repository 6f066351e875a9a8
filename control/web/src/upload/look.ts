// What can be told about a file before a byte of it is sent.

export interface Look {
  duration_s: number;
  width: number;
  height: number;
  picture: string; // the first frame, as a small data URL
}

const PICTURE_WIDTH = 192; // pixels
const PATIENCE_MS = 8000;
const TAKEN = /\.(mp4|mov|m4v|qt)$/i;
const FIRST_BOXES = ["ftyp", "moov", "mdat", "free", "skip", "wide", "pnot"]; // what an MP4 or MOV starts with

/** Return why a file cannot be taken, or null. */
export async function objection(file: File): Promise<string | null> {
  if (!TAKEN.test(file.name) && !/^video\/(mp4|quicktime)/.test(file.type))
    return "Only MP4 and MOV videos can be taken. Convert it first.";
  if (file.size === 0) return "The file is empty.";
  const head = await file
    .slice(4, 8)
    .text()
    .catch(() => null);
  if (head === null) return "The file cannot be read. Was it moved or deleted?";
  if (!FIRST_BOXES.includes(head)) return "It is named like a video, but its content is something else.";
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
