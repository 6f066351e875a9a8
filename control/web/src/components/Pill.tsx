import type { BatchSummary } from "../shapes";
import { status } from "../words";

/** A batch's status. */
export function Pill({ of }: { of: BatchSummary }) {
  return <span class={`pill ${of.status} ${of.partial ? "partial" : ""}`}>{status(of)}</span>;
}
