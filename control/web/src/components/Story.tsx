import type { LiveBatch } from "../live";
import { type Batch, isLive, type Status } from "../shapes";
import { t } from "../texts";
import { clock, status } from "../words";

interface Moment {
  id: string;
  at: string;
  status: Status;
  partial: boolean;
}

/** What has happened to the batch, the newest first: as its event stream tells it, else by the times that it has. */
export function Story({ live, batch }: { live: LiveBatch; batch: Batch }) {
  const told: Moment[] = live.events.value;
  const moments = told.length ? told : timesOf(batch);
  return (
    <section class="stack" aria-label={t.story.title}>
      <h2>{t.story.title}</h2>
      {!told.length && !isLive(batch) && <p class="muted small">{t.story.unheard}</p>}
      <ol class="events small">
        {moments.toReversed().map((moment) => (
          <li key={moment.id}>
            <span class="muted">{clock(moment.at)}</span>
            <span>{status(moment)}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** The moments that every batch knows by itself. */
function timesOf({ created_at, started_at, ended_at, expires_at, status, partial }: Batch): Moment[] {
  const known: [string | null, Status][] = [
    [created_at, "queued"],
    [started_at, "running"],
    [status === "expired" ? expires_at : ended_at, status],
  ];
  return known.flatMap(([at, of]) => (at ? [{ id: of, at, status: of, partial }] : []));
}
