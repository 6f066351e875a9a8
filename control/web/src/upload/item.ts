// One video of the batch that is being made: a file on its way to the bucket, or a URL.
import { computed, signal } from "@preact/signals";
import * as api from "../api";
import { ApiError, inWords, waitsFor } from "../api";
import { SIGNED_OUT } from "../session";
import type { SourceRef } from "../shapes";
import { t } from "../texts";
import { type Look, look, objection } from "./look";
import { conclude, type Sending, type Sent, send } from "./parts";
import { Pool } from "./pool";

export type Phase =
  | "looking" // into the file, before a byte is sent
  | "sending"
  | "paused" // by the user
  | "checking" // control looks into what has arrived, or at a URL
  | "ready"
  | "fileless" // a reload has lost the file; what is stored is kept
  | "failed" // may be tried again by the user
  | "refused"; // will never do

/** What is kept over a reload. */
export interface Kept {
  name: string;
  size: number;
  modified: number;
  uploadId: string | null;
  sourceId: string | null;
  stored?: number; // bytes
  variations?: number | null;
  url: string | null;
  look: Look | null;
}

const lookers = new Pool(2); // each holds a decoder
const checkers = new Pool(4);
const STOPPED = new DOMException("stopped", "AbortError");

let made = 0;

const nextKey = (): number => {
  made += 1;
  return made;
};

export class Item {
  readonly key = nextKey();
  readonly phase = signal<Phase>("looking");
  readonly problem = signal<string | null>(null);
  /** Why it waits now; it goes on by itself. */
  readonly trouble = signal<string | null>(null);
  readonly look = signal<Look | null>(null);
  readonly sent = signal(0); // bytes
  readonly variations = signal<number | null>(null); // null: as many as of the others
  readonly stored = signal(0); // bytes: what a reload keeps
  /** Whether a reload may lose the file. */
  readonly isUnsent = computed(
    () => !this.url && ["looking", "sending", "checking", "paused", "failed"].includes(this.phase.value),
  );
  readonly isPending = computed(() => ["looking", "sending", "checking"].includes(this.phase.value));
  /** Both are kept over a reload as soon as they are known. */
  readonly uploadId = signal<string | null>(null);
  readonly sourceId = signal<string | null>(null);
  readonly notes = signal<string[]>([]); // what could not be used of it; the batch shows them too
  private file: File | null = null;
  private stop: AbortController | null = null;

  constructor(
    readonly name: string,
    readonly size: number,
    readonly modified: number,
    readonly url: string | null = null,
    kept?: Kept,
  ) {
    this.uploadId.value = kept?.uploadId ?? null;
    this.sourceId.value = kept?.sourceId ?? null;
    this.look.value = kept?.look ?? null;
    this.variations.value = kept?.variations ?? null;
    this.stored.value = this.sourceId.value ? size : (kept?.stored ?? 0);
    this.sent.value = this.stored.value;
    if (this.sourceId.value) this.phase.value = "ready";
    else if (kept && !url) this.phase.value = "fileless";
    const isAllStored = this.uploadId.value && this.stored.value === size;
    if (url || (this.phase.value === "fileless" && isAllStored)) void this.start();
  }

  static ofFile(file: File): Item {
    const item = new Item(file.name, file.size, file.lastModified);
    void item.take(file);
    return item;
  }

  /** One that is in the bucket already. */
  static ofSource(name: string, sourceId: string): Item {
    const kept = { name, size: 0, modified: 0, url: null, uploadId: null, sourceId, look: null };
    return new Item(name, 0, 0, null, kept);
  }

  kept(): Kept {
    const { name, size, modified, url } = this;
    const [uploadId, sourceId] = [this.uploadId.value, this.sourceId.value];
    return {
      name,
      size,
      modified,
      url,
      uploadId,
      sourceId,
      stored: this.stored.value,
      variations: this.variations.value,
      look: this.look.value,
    };
  }

  /** How the batch names it, or null while it is not there. */
  get ref(): SourceRef | null {
    if (this.url) return { url: this.url, name: this.name };
    return this.sourceId.value ? { source_id: this.sourceId.value } : null;
  }

  isOf(file: File): boolean {
    return (
      !this.url && file.name === this.name && file.size === this.size && file.lastModified === this.modified
    );
  }

  /** Look into the file and send it; picked again after a reload, send what is missing. */
  async take(file: File): Promise<void> {
    this.file = file;
    this.phase.value = "looking";
    const no = await objection(file);
    if (no) return this.refuse(no);
    const looking = lookers.run(async () => {
      this.look.value ??= await look(file);
    });
    await Promise.all([looking, this.start()]);
  }

  async start(): Promise<void> {
    const { file, url } = this;
    const stop = new AbortController();
    this.stop = stop;
    this.problem.value = null;
    const options = {
      stop: stop.signal,
      onTrouble: (trouble: ApiError | null) => {
        this.trouble.value = waitsFor(trouble);
      },
    };
    try {
      if (url) await this.check(options);
      else if (file) await this.send(file, options);
      else await this.conclude(options);
    } catch (error) {
      if (error === SIGNED_OUT) this.pause();
      else if (this.stop === stop && !stop.signal.aborted) this.fail(error);
    }
  }

  /** Have control look at the URL. It is fetched when the batch runs. */
  private async check(options: api.Options): Promise<void> {
    this.phase.value = "checking";
    await checkers.run(() => api.post("quote", { sources: [this.ref], variations: 1 }, options));
    this.phase.value = "ready";
  }

  private async send(file: File, options: Pick<Sending, "stop" | "onTrouble">): Promise<void> {
    this.phase.value = "sending";
    const source = await send({
      ...options,
      file,
      uploadId: this.uploadId.value,
      onBegun: (id) => {
        this.uploadId.value = id;
      },
      onSent: (bytes, stored) => {
        if (options.stop.aborted) return;
        this.sent.value = bytes;
        this.stored.value = stored;
        this.phase.value = stored === this.size ? "checking" : "sending";
      },
    });
    this.done(source);
  }

  /** All of it was stored before a reload lost the file: then the file is not needed. */
  private async conclude(options: api.Options): Promise<void> {
    this.phase.value = "checking";
    const source = await conclude(this.uploadId.value ?? "", options);
    if (source) this.done(source);
    else this.phase.value = "fileless";
  }

  private done({ source_id, notes }: Sent): void {
    this.sourceId.value = source_id;
    this.notes.value = notes;
    this.phase.value = "ready";
  }

  pause(): void {
    this.phase.value = "paused";
    this.stop?.abort(STOPPED);
  }

  /** Stop, and remove what was sent. */
  drop(): void {
    this.stop?.abort(STOPPED);
    const id = this.uploadId.value;
    if (id && !this.sourceId.value) api.remove(`uploads/${id}`).catch(() => {});
  }

  private fail(error: unknown): void {
    const isFinal = error instanceof ApiError && [413, 415, 422].includes(error.status);
    if (isFinal) this.refuse(inWords(error));
    else {
      this.problem.value = `${inWords(error)} ${this.stored.value ? t.item.keptAgain : t.item.again}`;
      this.phase.value = "failed";
    }
  }

  /** Control no longer has what was sent. */
  lose(): void {
    this.refuse(t.item.gone);
  }

  private refuse(why: string): void {
    this.problem.value = why.replace(/(^|: )([a-z]+[_.][\w.]*|name): /, "$1"); // the field's name: it stands at its video
    this.phase.value = "refused";
  }
}
