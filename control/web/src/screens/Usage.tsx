import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { get, inWords } from "../api";
import { Bar } from "../components/Bar";
import { Notice } from "../components/Notice";
import { useNow } from "../components/useNow";
import type { Budget, Costs, Machine, Storage } from "../shapes";
import { signOutEverywhere } from "../signOut";
import { bytes, day, money, span } from "../words";

const AGAIN_MS = 10_000;
const DAYS = 14;

/** What is used and spent. */
export function Usage() {
  return (
    <div class="stack loose">
      <h1>Usage</h1>
      <div class="pair">
        <StorageCard />
        <MachinesCard />
      </div>
      <CostsCard />
      <Everywhere />
    </div>
  );
}

/** Something read now and again; while it cannot be, the reason in words. */
function Read<Body>({
  path,
  title,
  children,
}: {
  path: string;
  title: string;
  children: (body: Body) => ComponentChildren;
}) {
  const body = useSignal<Body | null>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    const read = async () => {
      try {
        body.value = await get<Body>(path);
        problem.value = null;
      } catch (error) {
        problem.value = inWords(error);
      }
    };
    void read();
    const timer = setInterval(() => !document.hidden && void read(), AGAIN_MS);
    return () => clearInterval(timer);
  }, [path]);
  return (
    <section class="card stack" aria-label={title}>
      <h2>{title}</h2>
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      {body.value !== null && children(body.value)}
    </section>
  );
}

function StorageCard() {
  return (
    <Read<Storage> path="storage" title="Storage">
      {({ used_bytes, cap_bytes, percent }) => (
        <>
          <p class="figure">{bytes(used_bytes)}</p>
          <Bar percent={percent} label="Storage used" tone={percent > 90 ? "bad" : undefined} />
          <p class="muted small">
            of {bytes(cap_bytes)}. When it is full, the oldest finished results go first.
          </p>
        </>
      )}
    </Read>
  );
}

function MachinesCard() {
  const now = useNow(1000);
  return (
    <Read<{ items: Machine[] }> path="machines" title="Machines now">
      {({ items }) => (
        <>
          <p class="figure">{items.length || "None"}</p>
          {items.length === 0 && <p class="muted small">Nothing runs, so nothing is billed.</p>}
          {items.length > 0 && (
            <ul class="small">
              {items.map((machine) => (
                <li key={machine.machine_id} class="row">
                  <span>
                    {machine.state} <span class="muted">in {machine.region}</span>
                    {machine.orphan && <span class="bad-text"> belongs to no job</span>}
                  </span>
                  <span class="muted">{span((now - Date.parse(machine.created_at)) / 1000)}</span>
                </li>
              ))}
            </ul>
          )}
        </>
      )}
    </Read>
  );
}

function CostsCard() {
  const now = new Date();
  const from = new Date(now.getTime() - (DAYS - 1) * 86_400_000);
  const date = (at: Date) => at.toISOString().slice(0, 10);
  return (
    <Read<Costs> path={`costs?from=${date(from)}&to=${date(now)}`} title={`Cost of the last ${DAYS} days`}>
      {(costs) => <CostChart costs={costs} />}
    </Read>
  );
}

function CostChart({ costs: { days, budget } }: { costs: Costs }) {
  const total = days.reduce((sum, { cost_usd }) => sum + cost_usd, 0);
  const most = Math.max(...days.map(({ cost_usd }) => cost_usd), 0.0001);
  return (
    <>
      <p class="figure">{money(total)}</p>
      <table class="chart">
        <caption class="visually-hidden">Cost per day</caption>
        <thead class="visually-hidden">
          <tr>
            <th scope="col">Day</th>
            <th scope="col">Cost</th>
          </tr>
        </thead>
        <tbody>
          {days.map(({ date, cost_usd, machine_seconds }) => (
            <tr key={date} title={`${day(date)}: ${money(cost_usd)}, ${span(machine_seconds)} of machines`}>
              <th scope="row">{day(date)}</th>
              <td>
                <div class="chart-bar" style={{ height: `${(100 * cost_usd) / most}%` }} />
                <span class="visually-hidden">{money(cost_usd)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <div class="pair">
        <Cap of={budget.day} span="today" />
        <Cap of={budget.month} span="this month" />
      </div>
    </>
  );
}

/** How much of a budget is spent, or set aside for machines that run. */
function Cap({ of, span: when }: { of: Budget | null; span: string }) {
  if (!of) return <p class="muted small">No budget is set for {when}.</p>;
  const used = of.spent_usd + of.reserved_usd;
  const percent = of.cap_usd ? (100 * used) / of.cap_usd : 100;
  return (
    <div class="stack">
      <div class="row small">
        <span>Budget {when}</span>
        <span class="muted">
          {money(Math.max(0, of.left_usd))} of {money(of.cap_usd)} left
        </span>
      </div>
      <Bar percent={percent} label={`Budget used ${when}`} tone={percent >= 90 ? "bad" : undefined} />
    </div>
  );
}

function Everywhere() {
  return (
    <p class="muted small">
      Lost a laptop?{" "}
      <button type="button" class="as-link" onClick={() => void signOutEverywhere()}>
        Sign out on all devices
      </button>
    </p>
  );
}
