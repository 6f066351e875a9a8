// The JSON of the API (docs/api.md): what the page reads of it.

export type Status = "queued" | "launching" | "running" | "completed" | "failed" | "cancelled" | "expired";
export type OutputStatus = "queued" | "running" | "ready" | "failed" | "cancelled";
export type Preset = "web-optimized" | "hls" | "copy";
export type Quality = "standard" | "high";
export type FrameRate = "29.97" | "source";

export interface Problem {
  code: string;
  message: string;
}

export interface Output {
  output_id: string;
  name: string;
  variation: number;
  status: OutputStatus;
  percent: number;
  size_bytes: number | null;
  duration_s: number | null;
  effects: Record<string, number | boolean>;
  preset?: Preset | null;
  poster?: boolean;
  error: Problem | null;
}

export interface Source {
  source_id: string;
  name: string;
  width: number; // 0 while unknown
  height: number;
  status: OutputStatus;
  percent: number;
  notes: string[]; // what could not be used of it
  outputs: Output[];
}

export interface Attempt {
  attempt_id: string;
  number: number;
  state: string;
  reason: string | null;
  reason_text: string | null;
  machine_id: string | null;
  region: string | null;
  size: string;
  started_at: string | null;
  ended_at: string | null;
  machine_seconds: number;
  cost_usd: number;
}

export interface Progress {
  percent: number;
  ready: number;
  failed: number;
  total: number;
  eta_s: number | null;
}

export interface BatchSummary {
  batch_id: string;
  name: string | null;
  source_names: string[]; // the first three
  sources_count: number;
  poster_output_ids: string[]; // of up to three sources
  shared: boolean; // whether it has a share link
  size_bytes: number;
  ticket: string; // of its pictures, players and events
  status: Status;
  partial: boolean;
  progress: Progress;
  waiting: Problem | null;
  cost_usd: number;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  expires_at: string | null;
  error: Problem | null;
}

/** What a user chose beside the videos and their number. */
export interface Settings {
  name: string | null;
  name_template: string | null;
  without: string[];
  strength: number;
  quality: Quality;
  frame_rate: FrameRate;
}

export interface Batch extends BatchSummary, Settings {
  variations: number; // of each source; 0 with a preset
  preset: Preset | null;
  sources: Source[];
  attempts: Attempt[];
}

export interface SharedOutput
  extends Pick<Output, "output_id" | "name" | "variation" | "size_bytes" | "duration_s"> {
  preset: Preset | null;
  poster: boolean;
}

/** What a share link opens. */
export interface SharedBatch {
  batch_id: string;
  name: string | null;
  expires_at: string | null;
  ticket: string;
  sources: { name: string; width: number; height: number; outputs: SharedOutput[] }[]; // 0 x 0: unknown
}

export interface Page<Item> {
  items: Item[];
  next_cursor: string | null;
}

/** Where to PUT a part; once it is stored, its ETag instead. */
export interface Part {
  number: number;
  url?: string;
  etag?: string;
}

export interface Upload {
  upload_id: string;
  part_size_bytes: number;
  parts: Part[];
  source_id?: string; // once it is completed
}

export interface UploadedSource {
  source_id: string;
  name: string;
  size_bytes: number;
  duration_s: number;
  width: number;
  height: number;
  notes: string[]; // what could not be used of it
}

export type SourceRef = { source_id: string } | { url: string; name: string };

export interface Order extends Partial<Settings> {
  sources: SourceRef[];
  variations?: number;
  preset?: Preset;
  max_machines?: number;
  max_cost_usd?: number;
  deadline_s?: number;
  webhook_url?: string;
  seed?: number;
}

export interface QuotePoint {
  machines: number;
  makespan_s: number;
  cost_usd: number;
}

export interface Quote extends QuotePoint {
  cost_low_usd: number | null; // the likely range, once enough jobs have finished
  cost_high_usd: number | null;
  curve: QuotePoint[];
  estimated?: boolean;
  retention_hours: number; // so long results are kept after the end
  fits: boolean; // false: its results may not fit into the storage now
}

export interface Machine {
  machine_id: string;
  name: string;
  region: string;
  state: string;
  created_at: string;
  job_id: string | null;
  orphan: boolean;
}

export interface Storage {
  used_bytes: number;
  cap_bytes: number;
  percent: number;
}

export const LIVE: readonly Status[] = ["queued", "launching", "running"];

const AT_WORK = ["launching", "booting", "running"];

export const isAtWork = (attempt: Attempt): boolean => AT_WORK.includes(attempt.state);

export const isLive = (batch: BatchSummary): boolean => LIVE.includes(batch.status);

export const outputsOf = (batch: Batch): Output[] => batch.sources.flatMap((source) => source.outputs);

export const isReady = ({ status }: Output): boolean => status === "ready";

export const sizeOf = (outputs: Output[]): number =>
  outputs.reduce((sum, { size_bytes }) => sum + (size_bytes ?? 0), 0);

export interface Budget {
  cap_usd: number;
  spent_usd: number;
  reserved_usd: number;
  left_usd: number;
}

export interface Costs {
  days: { date: string; machine_seconds: number; cost_usd: number }[];
  budget: { day: Budget | null; month: Budget | null };
}
