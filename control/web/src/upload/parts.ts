// The bytes of one upload, in parts, many at a time, straight to the bucket. The bucket alone says what is there.
import * as api from "../api";
import { ApiError } from "../api";
import type { Upload, UploadedSource } from "../shapes";
import { Pool } from "./pool";

const PARTS_AT_ONCE = 4; // of all files; a browser opens six connections to a host
const TRIES = 8; // of a part, in a row
const PAUSE_MS = { first: 500, most: 15_000 };

const pool = new Pool(PARTS_AT_ONCE);

export interface Sending {
  file: File;
  /** Of an upload that was begun before. */
  uploadId: string | null;
  onBegun: (uploadId: string) => void;
  onSent: (bytes: number) => void;
  stop: AbortSignal;
}

export type Sent = Pick<UploadedSource, "source_id" | "notes">;

/** Upload what is missing and return the source that it makes. Throws ApiError, or `stop`'s reason. */
export async function send(sending: Sending): Promise<Sent> {
  const upload = await begin(sending);
  if (upload.source_id) {
    sending.onSent(sending.file.size);
    return { source_id: upload.source_id, notes: [] }; // completed before, and its answer was lost
  }
  const transfer = new Transfer(upload, sending);
  const parts = await transfer.run();
  return await api.post<UploadedSource>(`uploads/${upload.upload_id}/complete`, { parts });
}

async function begin({ file, uploadId, onBegun }: Sending): Promise<Upload> {
  try {
    if (uploadId) return await api.get(`uploads/${uploadId}`);
  } catch (error) {
    if (!(error instanceof ApiError) || ![404, 410].includes(error.status)) throw error;
  } // given up or expired: from the start
  const type = file.type.startsWith("video/") ? file.type : "video/mp4";
  const body = { name: file.name, size_bytes: file.size, content_type: type };
  const upload = await api.post<Upload>("uploads", body);
  onBegun(upload.upload_id);
  return upload;
}

class Transfer {
  private readonly sent = new Map<number, number>(); // bytes of each part
  private readonly etags = new Map<number, string>();
  private readonly urls = new Map<number, string>();
  private readonly failed = new AbortController(); // one part's failure ends the others
  private readonly stop: AbortSignal;
  private renewal: Promise<void> | null = null;

  constructor(
    private readonly upload: Upload,
    private readonly sending: Sending,
  ) {
    this.stop = AbortSignal.any([sending.stop, this.failed.signal]);
    for (const { number, url, etag } of upload.parts) {
      if (etag) this.etags.set(number, etag);
      else if (url) this.urls.set(number, url);
      this.sent.set(number, etag ? this.slice(number).size : 0);
    }
  }

  async run(): Promise<{ number: number; etag: string }[]> {
    this.tell();
    await Promise.all([...this.urls.keys()].map((number) => pool.run(() => this.part(number))));
    return this.upload.parts.map(({ number }) => ({ number, etag: this.etags.get(number) ?? "" }));
  }

  private slice(number: number): Blob {
    const size = this.upload.part_size_bytes;
    return this.sending.file.slice((number - 1) * size, number * size);
  }

  private tell(): void {
    this.sending.onSent([...this.sent.values()].reduce((sum, bytes) => sum + bytes, 0));
  }

  private async part(number: number): Promise<void> {
    const onSent = (bytes: number) => {
      this.sent.set(number, bytes);
      this.tell();
    };
    const bytes = this.slice(number);
    for (let tries = 1; !this.etags.has(number); tries += 1) {
      try {
        this.etags.set(number, await put(this.urls.get(number) ?? "", bytes, onSent, this.stop));
      } catch (error) {
        onSent(0);
        tries = await this.mended(error, tries);
      }
    }
  }

  /** Wait until a part may be tried again and return how often it was; throw what cannot be mended. */
  private async mended(error: unknown, tries: number): Promise<number> {
    this.stop.throwIfAborted();
    try {
      if (!(error instanceof ApiError) || tries === TRIES) throw error;
      if (error.status === 403) await this.renew();
      else if (!error.isPassing) throw error;
    } catch (fatal) {
      this.failed.abort(fatal);
      throw fatal;
    }
    await pause(tries, this.stop);
    return navigator.onLine ? tries : 0;
  }

  /** Ask for fresh URLs, once for all parts whose signature has expired. */
  private renew(): Promise<void> {
    this.renewal ??= api
      .get<Upload>(`uploads/${this.upload.upload_id}`)
      .then(({ parts }) => {
        for (const { number, url } of parts) if (url) this.urls.set(number, url);
      })
      .finally(() => {
        this.renewal = null;
      });
    return this.renewal;
  }
}

/** PUT one part and return its ETag. XMLHttpRequest, since fetch tells nothing while it sends. */
function put(url: string, bytes: Blob, onSent: (bytes: number) => void, stop: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    stop.throwIfAborted();
    stop.addEventListener("abort", abort);
    request.upload.onprogress = (event) => onSent(event.loaded);
    request.onload = () => {
      const etag = request.getResponseHeader("ETag");
      if (request.status !== 200)
        reject(new ApiError(request.status, "storage", `The storage refused a part (${request.status}).`));
      else if (!etag)
        reject(new ApiError(200, "storage", "The storage hides its ETag: its CORS rules lack it."));
      else {
        onSent(bytes.size);
        resolve(etag);
      }
    };
    request.onerror = () => reject(new ApiError(0, "storage", "The storage cannot be reached."));
    request.onabort = () => reject(stop.reason);
    request.onloadend = () => stop.removeEventListener("abort", abort);
    request.open("PUT", url);
    request.send(bytes);
  });
}

/** Wait with back-off and jitter; less when the connection is back, or it is stopped. */
function pause(tries: number, stop: AbortSignal): Promise<void> {
  const most = Math.min(PAUSE_MS.most, PAUSE_MS.first * 2 ** tries);
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      removeEventListener("online", go);
      stop.removeEventListener("abort", go);
      resolve();
    };
    const timer = setTimeout(go, most * (0.5 + Math.random() / 2));
    addEventListener("online", go);
    stop.addEventListener("abort", go);
  });
}
