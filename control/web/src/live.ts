// A batch as it changes: read whole now and then, kept current by its event stream; without one it polls.
import { signal } from "@preact/signals";
import * as api from "./api";
import { ApiError } from "./api";
import {
  type Batch,
  isLive,
  type Output,
  type OutputStatus,
  type Problem,
  type Progress,
  type Status,
} from "./shapes";

const POLL_MS = { streaming: 5000, polling: 2000, ended: 60_000, most: 30_000 };
const READ_AT_MOST_EVERY_MS = 400;
const TICKET_MS = 40 * 60 * 1000; // of an hour
const STREAM_AGAIN_MS = 30_000;
const OUTPUTS_TOGETHER_MS = 120;

/** A durable event that moved the batch or one of its jobs. */
export interface StateEvent {
  id: string;
  status: Status;
  partial: boolean;
  attempt_id: string | null;
  at: string;
}

interface Snapshot extends Progress {
  status: Status;
  waiting: Problem | null;
  sources: { source_id: string; status: OutputStatus; percent: number }[];
}

export class LiveBatch {
  readonly batch = signal<Batch | null>(null);
  readonly problem = signal<ApiError | null>(null);
  readonly freshAt = signal(0); // ms
  readonly events = signal<StateEvent[]>([]);
  /** Of posters and players. It stays while it can, since each new one loads every picture again. */
  readonly ticket = signal("");
  private ticketAt = 0;
  private stream: EventSource | null = null;
  private streamAfter = 0;
  private timer = 0;
  private failures = 0;
  private readCostMs = 0;
  private isReading = false;
  private isClosed = false;
  private isTold = false; // the whole story of an ended batch has been streamed
  private fresh = new Map<string, Output>();

  constructor(private readonly id: string) {
    document.addEventListener("visibilitychange", this.onVisibility);
    addEventListener("online", this.poke);
    void this.read();
  }

  close(): void {
    this.isClosed = true;
    document.removeEventListener("visibilitychange", this.onVisibility);
    removeEventListener("online", this.poke);
    this.quiet();
  }

  /** Take a batch that a call has answered with. */
  take(batch: Batch): void {
    this.batch.value = batch;
    this.problem.value = null;
    this.freshAt.value = Date.now();
    if (Date.now() - this.ticketAt > TICKET_MS) {
      this.ticket.value = batch.ticket;
      this.ticketAt = Date.now();
    }
    if (isLive(batch)) this.isTold = false;
    if (!this.isTold) this.listen();
  }

  /** Read it again now, or as soon as is decent: a large batch, which takes long to read, less often. */
  readonly poke = (): void => {
    const next = this.freshAt.peek() + Math.max(READ_AT_MOST_EVERY_MS, 4 * this.readCostMs);
    this.readIn(next - Date.now());
  };

  private readonly onVisibility = (): void => {
    if (document.hidden) this.quiet();
    else this.poke();
  };

  private quiet(): void {
    clearTimeout(this.timer);
    this.stream?.close();
    this.stream = null;
  }

  private readIn(ms: number): void {
    clearTimeout(this.timer);
    if (!this.isClosed && !document.hidden) this.timer = window.setTimeout(() => void this.read(), ms);
  }

  private async read(): Promise<void> {
    if (this.isReading) return this.readIn(READ_AT_MOST_EVERY_MS);
    this.isReading = true;
    const startedAt = Date.now();
    try {
      const batch = await api.get<Batch>(`batches/${this.id}`);
      this.readCostMs = Date.now() - startedAt;
      this.failures = 0;
      if (!this.isClosed) this.take(batch);
    } catch (error) {
      this.failures += 1;
      this.problem.value = error instanceof ApiError ? error : new ApiError(0, "away", api.AWAY);
    } finally {
      this.isReading = false;
    }
    if (!this.problem.value || this.problem.value.isPassing) this.readIn(this.pause());
  }

  /** How long until the next look, with jitter, so that many open pages do not ask in step. */
  private pause(): number {
    const { streaming, polling, ended, most } = POLL_MS;
    const batch = this.batch.value;
    const usual = batch && !isLive(batch) ? ended : this.stream ? streaming : polling;
    const ms = this.failures ? Math.min(most, polling * 2 ** this.failures) : usual;
    return ms * (0.75 + Math.random() / 2);
  }

  private listen(): void {
    if (this.stream || this.isClosed || document.hidden || Date.now() < this.streamAfter) return;
    const stream = new EventSource(
      api.address(`batches/${this.id}/events?ticket=${encodeURIComponent(this.ticket.value)}`),
    );
    this.stream = stream;
    const on = <Data>(kind: string, take: (data: Data, id: string) => void) =>
      stream.addEventListener(kind, (event: MessageEvent<string>) =>
        take(JSON.parse(event.data), event.lastEventId),
      );
    on<Snapshot>("progress", (snapshot) => this.advance(snapshot));
    on<Output>("output", (output) => this.takeOutput(output));
    on<Omit<StateEvent, "id">>("state", (event, id) => this.note({ ...event, id }));
    stream.addEventListener("end", () => {
      this.isTold = true;
      this.leave(stream);
      this.poke();
    });
    stream.onerror = () => {
      this.leave(stream);
      this.streamAfter = Date.now() + STREAM_AGAIN_MS;
      this.poke();
    };
  }

  private leave(stream: EventSource): void {
    stream.close();
    if (this.stream === stream) this.stream = null;
  }

  private note(event: StateEvent): void {
    if (!this.events.value.some(({ id }) => id === event.id))
      this.events.value = [...this.events.value, event];
    this.poke();
  }

  private advance({ status, waiting, sources, ...progress }: Snapshot): void {
    const batch = this.batch.value;
    if (!batch) return;
    const of = new Map(sources.map((source) => [source.source_id, source]));
    this.freshAt.value = Date.now();
    this.batch.value = {
      ...batch,
      status,
      waiting,
      progress,
      sources: batch.sources.map((source) => ({ ...source, ...of.get(source.source_id) })),
    };
  }

  /** Outputs come in bursts; each burst is shown at once. */
  private takeOutput(output: Output): void {
    if (!this.fresh.size) setTimeout(() => this.showFresh(), OUTPUTS_TOGETHER_MS);
    this.fresh.set(output.output_id, output);
  }

  private showFresh(): void {
    const { fresh, batch } = this;
    this.fresh = new Map();
    if (!batch.value) return;
    const sources = batch.value.sources.map((source) => ({
      ...source,
      outputs: source.outputs.map((output) => fresh.get(output.output_id) ?? output),
    }));
    batch.value = { ...batch.value, sources };
  }
}
