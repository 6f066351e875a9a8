import { items, maxMachines, quote, quoteProblem, ready } from "../draft";
import type { Quote, QuotePoint } from "../shapes";
import { count, money, span } from "../words";

/** What the batch will cost and take, with a curve of time over machines to drag along. */
export function Price() {
  const now = quote.value;
  if (!now)
    return (
      <div class="price">
        <Unknown />
      </div>
    );
  const chosen = point(now);
  const missing = items.value.filter((item) => item.phase.value !== "refused").length - ready.value.length;
  return (
    <div class="price">
      <div class="price-figures" aria-live="polite">
        <div>
          <div class="figure">{money(chosen.cost_usd)}</div>
          <div class="muted small">{now.estimated ? "estimated" : "price"}</div>
        </div>
        <div>
          <div class="figure">{span(chosen.makespan_s)}</div>
          <div class="muted small">until done</div>
        </div>
        <div>
          <div class="figure">{chosen.machines}</div>
          <div class="muted small">{chosen.machines === 1 ? "machine" : "machines"}</div>
        </div>
      </div>
      {now.curve.length > 1 && <Curve quote={now} chosen={chosen} />}
      {missing > 0 && <p class="muted small">So far for {ready.value.length} of the videos.</p>}
    </div>
  );
}

function Unknown() {
  if (quoteProblem.value) return <p class="muted small">No price: {quoteProblem.value}</p>;
  const isWaiting = items.value.some((item) => item.isPending.value) || ready.value.length > 0;
  return (
    <p class="muted small">
      {isWaiting ? "The price follows as soon as a video is there." : "No price yet."}
    </p>
  );
}

/** The point of the curve that the user has chosen, or the nearest below it. */
function point(of: Quote): QuotePoint {
  const wanted = maxMachines.value;
  if (wanted === null) return of;
  const fitting = of.curve.filter(({ machines }) => machines <= wanted);
  return fitting.at(-1) ?? of;
}

const SIZE = { width: 320, height: 96, edge: 10 };

function Curve({ quote: { curve }, chosen }: { quote: Quote; chosen: QuotePoint }) {
  const at = Math.max(
    0,
    curve.findIndex(({ machines }) => machines === chosen.machines),
  );
  const slowest = Math.max(...curve.map(({ makespan_s }) => makespan_s));
  const x = (index: number) => SIZE.edge + ((SIZE.width - 2 * SIZE.edge) * index) / (curve.length - 1);
  const y = (seconds: number) => SIZE.height - (SIZE.height - 2 * SIZE.edge) * (seconds / slowest);
  const line = curve
    .map(({ makespan_s }, index) => `${index ? "L" : "M"}${x(index)} ${y(makespan_s)}`)
    .join("");
  return (
    <div class="curve">
      <svg viewBox={`0 0 ${SIZE.width} ${SIZE.height}`} aria-hidden="true">
        <path
          class="curve-area"
          d={`${line}L${x(curve.length - 1)} ${SIZE.height}L${x(0)} ${SIZE.height}Z`}
        />
        <path class="curve-line" d={line} />
        <line class="curve-mark" x1={x(at)} x2={x(at)} y1={y(chosen.makespan_s)} y2={SIZE.height} />
        <circle class="curve-dot" cx={x(at)} cy={y(chosen.makespan_s)} r="6" />
      </svg>
      <input
        type="range"
        min={0}
        max={curve.length - 1}
        value={at}
        aria-label="Machines at once, at most"
        aria-valuetext={`${count(chosen.machines, "machine")}, ${span(chosen.makespan_s)}, ${money(chosen.cost_usd)}`}
        onInput={(event) => {
          maxMachines.value = curve[event.currentTarget.valueAsNumber]?.machines ?? null;
        }}
      />
      <div class="row muted small" aria-hidden="true">
        <span>fewer machines</span>
        <span>sooner done</span>
      </div>
    </div>
  );
}
