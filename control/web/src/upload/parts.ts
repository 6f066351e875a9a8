// The bytes of one upload, in parts, many at a time, straight to the bucket. The bucket alone says what is there.
import * as api from "../api";
import { ApiError } from "../api";
import { fateOfPart } from "../fate";
import type { Upload, UploadedSource } from "../shapes";
import { t } from "../texts";
import { Patience, Tries } from "../waits";
import { Pool } from "./pool";

const PARTS_AT_ONCE = 4; // of all files; a browser opens six connections to a host
const SILENCE_MS = 60_000; // of a bucket that takes nothing and answers nothing

const pool = new Pool(PARTS_AT_ONCE);

export interface Sending {
  file: File;
  /** Of an upload that was begun before. */
  uploadId: string | null;
  onBegun: (uploadId: string) => void;
  /** How many bytes were sent, and how many of them are stored: a reload keeps these alone. */
  onSent: (bytes: number, storedBytes: number) => void;
  onTrouble: (trouble: ApiError | null) => void;
  stop: AbortSignal;
}

export type Sent = Pick<UploadedSource, "source_id" | "notes">;

/** Upload what is missing and return the source that it makes. Throws ApiError, or `stop`'s reason. */
export async function send(sending: Sending): Promise<Sent> {
  const { file, onSent, onBegun } = sending;
  let { uploadId } = sending;
  for (let isRepeat = false; ; isRepeat = true) {
    const upload = await begin(sending, uploadId);
    if (upload.upload_id !== uploadId) onBegun(upload.upload_id);
    uploadId = upload.upload_id;
    if (upload.source_id) {
      onSent(file.size, file.size);
      return { source_id: upload.source_id, notes: [] }; // completed before, and its answer was lost
    }
    try {
      const parts = await new Transfer(upload, sending).run();
      return await api.post<UploadedSource>(`uploads/${uploadId}/complete`, { parts }, sending);
    } catch (error) {
      if (isRepeat || !isLost(error)) throw error;
    }
  }
}

/** Return the source of an upload of which all is stored; null if the file is needed. Throws as `send` does. */
export async function conclude(uploadId: string, options: api.Options): Promise<Sent | null> {
  try {
    const upload = await api.get<Upload>(`uploads/${uploadId}`, options);
    if (upload.source_id) return { source_id: upload.source_id, notes: [] };
    const parts = upload.parts.map(({ number, etag }) => ({ number, etag }));
    return await api.post<UploadedSource>(`uploads/${uploadId}/complete`, { parts }, options);
  } catch (error) {
    if (isLost(error)) return null;
    throw error;
  }
}

async function begin(sending: Sending, uploadId: string | null): Promise<Upload> {
  const { name, size, type } = sending.file;
  try {
    if (uploadId) return await api.get(`uploads/${uploadId}`, sending);
  } catch (error) {
    if (!isLost(error)) throw error;
  } // given up or expired: from the start
  const content_type = type.startsWith("video/") ? type : "video/mp4";
  return await api.post<Upload>("uploads", { name, size_bytes: size, content_type }, sending);
}

/** Whether an upload, or a part of it, is no longer there: after a long sleep, say. A new look shows what is. */
const isLost = (error: unknown): boolean =>
  error instanceof ApiError && ([404, 410].includes(error.status) || error.code === "invalid");

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
    this.take(upload);
  }

  async run(): Promise<{ number: number; etag: string }[]> {
    this.tell();
    await Promise.all([...this.urls.keys()].map((number) => pool.run(() => this.part(number))));
    return this.upload.parts.map(({ number }) => ({ number, etag: this.etags.get(number) ?? "" }));
  }

  private take({ parts }: Upload): void {
    for (const { number, url, etag } of parts) {
      if (etag) this.stored(number, etag);
      else if (url) this.urls.set(number, url);
    }
  }

  private stored(number: number, etag: string): void {
    this.etags.set(number, etag);
    this.sent.set(number, this.slice(number).size);
  }

  private slice(number: number): Blob {
    const size = this.upload.part_size_bytes;
    return this.sending.file.slice((number - 1) * size, number * size);
  }

  private tell(): void {
    const sum = (bytes: Iterable<number>) => [...bytes].reduce((all, one) => all + one, 0);
    const stored = [...this.etags.keys()].map((number) => this.sent.get(number) ?? 0);
    this.sending.onSent(sum(this.sent.values()), sum(stored));
  }

  private async part(number: number): Promise<void> {
    const tries = new Tries();
    const onSent = (bytes: number) => {
      this.sent.set(number, bytes);
      this.tell();
      if (bytes) this.well(tries);
    };
    const bytes = this.slice(number);
    try {
      while (!this.etags.has(number)) {
        try {
          this.stored(number, await put(this.urls.get(number) ?? "", bytes, onSent, this.stop));
        } catch (error) {
          onSent(0);
          await this.mend(error, tries);
        }
      }
    } finally {
      this.well(tries);
    }
    this.tell();
  }

  private well(tries: Tries): void {
    tries.end();
    this.sending.onTrouble(null);
  }

  /** Wait until a part may be tried again. Throws what cannot be mended. */
  private async mend(error: unknown, tries: Tries): Promise<void> {
    this.stop.throwIfAborted();
    try {
      if (!(error instanceof ApiError)) throw error;
      await this.requireFile();
      const fate = fateOfPart(error, tries.count);
      if (fate.is !== "again") throw error;
      this.sending.onTrouble(error);
      await tries.pause(fate, this.stop);
      if (fate.needsUrl) await this.renew();
    } catch (fatal) {
      this.failed.abort(fatal);
      throw fatal;
    }
  }

  /** A file that was moved or deleted looks to the browser like a network that is down. */
  private async requireFile(): Promise<void> {
    const isThere = await this.sending.file
      .slice(0, 1)
      .arrayBuffer()
      .then(Boolean, () => false);
    if (!isThere) throw new ApiError(0, "unreadable", t.look.unreadable);
  }

  /** Ask for fresh URLs, once for all parts whose signature has expired, and for what is stored. */
  private renew(): Promise<void> {
    this.renewal ??= api
      .get<Upload>(`uploads/${this.upload.upload_id}`, { stop: this.stop })
      .then((upload) => this.take(upload))
      .finally(() => {
        this.renewal = null;
      });
    return this.renewal;
  }
}

/** PUT one part and return its ETag. XMLHttpRequest, since fetch tells nothing while it sends. */
function put(url: string, bytes: Blob, onSent: (bytes: number) => void, stop: AbortSignal): Promise<string> {
  const patience = new Patience(SILENCE_MS, stop);
  const refusal = (status: number, words: string) => new ApiError(status, "storage", words);
  return new Promise<string>((resolve, reject) => {
    const request = new XMLHttpRequest();
    stop.throwIfAborted();
    patience.signal.addEventListener("abort", () => request.abort());
    request.upload.onprogress = ({ loaded }) => {
      patience.heard();
      onSent(loaded);
    };
    request.onload = () => {
      if (request.status !== 200) return reject(refusal(request.status, t.parts.refused(request.status)));
      const etag = request.getResponseHeader("ETag");
      return etag ? resolve(etag) : reject(refusal(200, t.parts.noEtag));
    };
    request.onerror = () => reject(refusal(0, t.parts.away));
    request.onabort = () => reject(stop.aborted ? stop.reason : refusal(0, t.parts.away));
    request.open("PUT", url);
    request.send(bytes);
  }).finally(() => patience.end());
}
