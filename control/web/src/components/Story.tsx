import type { LiveBatch } from "../live";
import { clock, STATUS } from "../words";

/** What has happened to the batch, as its event stream tells it, the newest first. */
export function Story({ live }: { live: LiveBatch }) {
  const events = live.events.value.toReversed();
  return (
    <section class="card stack" aria-label="Events">
      <h2>Events</h2>
      {events.length === 0 && <p class="muted small">None so far.</p>}
      <ol class="events small">
        {events.map((event) => (
          <li key={event.id}>
            <span class="muted">{clock(event.at)}</span>
            <span>
              {event.status === "completed" && event.partial ? "Partly done" : STATUS[event.status]}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}
