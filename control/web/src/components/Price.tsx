import { amount, choices, objections, pace } from "../choices";
import { items, plainOrder, quote, quoteRefusal, quoteTrouble, ready } from "../draft";
import type { Quote, QuotePoint } from "../shapes";
import { t } from "../texts";
import { money, span } from "../words";

const say = t.price;

/** What the batch will cost and take, with a curve of time over machines to drag along. */
export function Price() {
  const now = quote.value;
  if (!now)
    return (
      <div class="price">
        <p class="muted small">{unknown()}</p>
      </div>
    );
  const all = items.value.filter((item) => item.phase.value !== "refused").length;
  return (
    <div class="price">
      <h2>{say.estimate}</h2>
      <div class="price-figures" aria-live="polite">
        <div>
          <div class="figure">{roughly(now.cost_usd)}</div>
          <div class="muted small">{range(now)}</div>
        </div>
        <div>
          <div class="figure">{span(now.makespan_s)}</div>
          <div class="muted small">{say.untilDone}</div>
        </div>
        <div>
          <div class="figure">{now.machines}</div>
          <div class="muted small">{say.machines(now.machines)}</div>
        </div>
      </div>
      {now.curve.length > 1 && !amount(choices.value.deadline) && <Curve quote={now} />}
      <p class="muted small">{say.kept(span(3600 * now.retention_hours))}</p>
      {ready.value.length < all && <p class="muted small">{say.soFar(ready.value.length, all)}</p>}
    </div>
  );
}

/** "about 12 ¢"; of less than a cent it need not be said. */
export const roughly = (usd: number): string => (usd < 0.01 ? money(usd) : say.about(money(usd)));

/** What the bills of finished jobs say about the estimate, where it shows in whole cents. */
function range({ cost_low_usd: low, cost_high_usd: high, estimated }: Quote): string {
  if (estimated) return say.rough;
  if (low === null || high === null || money(low) === money(high)) return "";
  return say.range(money(low), money(high));
}

function unknown(): string {
  if (Object.keys(objections.value).length) return say.mend;
  if (quoteTrouble.value) return say.none(quoteTrouble.value);
  if (quoteRefusal.value) return say.notYet; // the words of it stand at the button
  const isWaiting = items.value.some((item) => item.isPending.value) || ready.value.length > 0;
  return isWaiting ? say.follows : say.notYet;
}

const SIZE = { width: 320, height: 96, edge: 10 };

function Curve({ quote: { curve, machines: planned } }: { quote: Quote }) {
  const order = JSON.stringify(plainOrder.value);
  const wanted = pace.value?.order === order ? pace.value.point.machines : planned;
  const at = Math.max(
    0,
    curve.findLastIndex(({ machines }) => machines <= wanted),
  );
  const chosen = curve[at] as QuotePoint;
  const slowest = Math.max(...curve.map(({ makespan_s }) => makespan_s));
  const x = (index: number) => SIZE.edge + ((SIZE.width - 2 * SIZE.edge) * index) / (curve.length - 1);
  const y = (seconds: number) => SIZE.height - (SIZE.height - 2 * SIZE.edge) * (seconds / slowest);
  const line = curve
    .map(({ makespan_s }, index) => `${index ? "L" : "M"}${x(index)} ${y(makespan_s)}`)
    .join("");
  return (
    <div class="curve">
      <div class="row muted small" aria-hidden="true">
        <span>{span(curve[0]?.makespan_s ?? 0)}</span>
        <span>{say.timeAxis}</span>
        <span>{span(curve.at(-1)?.makespan_s ?? 0)}</span>
      </div>
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
        aria-label={say.slider}
        aria-valuetext={say.point(chosen.machines, span(chosen.makespan_s), money(chosen.cost_usd))}
        onInput={(event) => {
          const point = curve[event.currentTarget.valueAsNumber];
          if (point) pace.value = { point, order };
        }}
      />
      <div class="row muted small" aria-hidden="true">
        <span>{curve[0]?.machines}</span>
        <span>{say.machinesAxis}</span>
        <span>{curve.at(-1)?.machines}</span>
      </div>
    </div>
  );
}
