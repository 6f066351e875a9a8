import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { get, inWords } from "../api";
import { Bar } from "../components/Bar";
import { ask } from "../components/Confirm";
import { Notice } from "../components/Notice";
import { useNow } from "../components/useNow";
import type { Budget, Costs, Machine, Storage } from "../shapes";
import { signOutEverywhere } from "../signOut";
import { t } from "../texts";
import { bytes, day, money, span } from "../words";

const AGAIN_MS = 10_000;
const DAYS = 14;
const DAY_MS = 86_400_000;

/** What is used and spent. */
export function Usage() {
  return (
    <div class="stack loose">
      <h1>{t.usage.title}</h1>
      <div class="pair">
        <StorageCard />
        <MachinesCard />
      </div>
      <CostsCard />
      <Everywhere />
    </div>
  );
}

/** Something read now and again; while it cannot be, the reason in words. Until it is read, `empty` keeps its room,
 * so that nothing below moves away from under a finger. */
function Read<Body>({
  path,
  title,
  empty,
  children,
}: {
  path: string;
  title: string;
  empty: Body;
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
      <div class={`stack ${body.value ? "" : "unseen"}`}>{children(body.value ?? empty)}</div>
    </section>
  );
}

function StorageCard() {
  return (
    <Read<Storage> path="storage" title={t.usage.storage} empty={{ used_bytes: 0, cap_bytes: 0, percent: 0 }}>
      {({ used_bytes, cap_bytes, percent }) => (
        <>
          <p class="figure">{bytes(used_bytes)}</p>
          <Bar percent={percent} label={t.usage.storageUsed} tone={percent > 90 ? "bad" : undefined} />
          <p class="muted small">{t.usage.storageOf(bytes(cap_bytes))}</p>
        </>
      )}
    </Read>
  );
}

function MachinesCard() {
  const now = useNow(1000);
  return (
    <Read<{ items: Machine[] }> path="machines" title={t.usage.machines} empty={{ items: [] }}>
      {({ items }) => (
        <>
          <p class="figure">{items.length || t.usage.none}</p>
          {items.length === 0 && <p class="muted small">{t.usage.nothingRuns}</p>}
          {items.length > 0 && (
            <ul class="small">
              {items.map((machine) => (
                <li key={machine.machine_id} class="row">
                  <span>
                    {t.usage.machineStates[machine.state] ?? machine.state}{" "}
                    <span class="muted">{t.usage.region(machine.region)}</span>
                    {machine.orphan && <span class="bad-text"> {t.usage.orphan}</span>}
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

const date = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

function CostsCard() {
  const now = Date.now();
  const dates = Array.from({ length: DAYS }, (_, n) => date(now - (DAYS - 1 - n) * DAY_MS));
  return (
    <Read<Costs>
      path={`costs?from=${dates[0]}&to=${dates.at(-1)}`}
      title={t.usage.costs(DAYS)}
      empty={{ days: [], budget: { day: null, month: null } }}
    >
      {({ days, budget }) => (
        <>
          <p class="figure">{money(days.reduce((sum, { cost_usd }) => sum + cost_usd, 0))}</p>
          <Chart dates={dates} days={days} />
          <p class="muted small">{t.usage.estimate}</p>
          <div class="pair">
            <Cap of={budget.day} when="day" />
            <Cap of={budget.month} when="month" />
          </div>
        </>
      )}
    </Read>
  );
}

/** A bar for each date, also for those without cost, of which control sends nothing. */
function Chart({ dates, days }: { dates: string[]; days: Costs["days"] }) {
  const known = new Map(days.map((one) => [one.date, one]));
  const most = Math.max(...days.map(({ cost_usd }) => cost_usd), 0.0001);
  return (
    <table class="chart">
      <caption class="visually-hidden">{t.usage.perDay}</caption>
      <thead class="visually-hidden">
        <tr>
          <th scope="col">{t.usage.day}</th>
          <th scope="col">{t.usage.cost}</th>
        </tr>
      </thead>
      <tbody>
        {dates.map((at) => {
          const usd = known.get(at)?.cost_usd ?? 0;
          const spent = t.usage.dayTitle(day(at), money(usd), span(known.get(at)?.machine_seconds ?? 0));
          return (
            <tr key={at} title={usd ? spent : t.usage.noCost(day(at))}>
              <th scope="row">{day(at)}</th>
              <td style={{ "--part": usd / most }}>
                <span class={`chart-value ${usd ? "" : "muted"}`}>{usd ? money(usd) : "–"}</span>
                <span class="chart-bar" />
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** How much of a budget is spent, or set aside for machines that run. */
function Cap({ of, when }: { of: Budget | null; when: "day" | "month" }) {
  if (!of) return <p class="muted small">{t.usage.noBudget[when]}</p>;
  const used = of.spent_usd + of.reserved_usd;
  const percent = of.cap_usd ? (100 * used) / of.cap_usd : 100;
  const title = t.usage.budgets[when];
  return (
    <div class="stack">
      <div class="row small">
        <span>{title}</span>
        <span class="muted">{t.usage.budgetLeft(money(Math.max(0, of.left_usd)), money(of.cap_usd))}</span>
      </div>
      <Bar percent={percent} label={title} tone={percent >= 90 ? "bad" : undefined} />
    </div>
  );
}

function Everywhere() {
  const leave = () =>
    ask({
      title: t.usage.everywhereTitle,
      text: t.usage.everywhereText,
      yes: t.usage.everywhere,
      no: t.usage.everywhereNo,
      act: signOutEverywhere,
    });
  return (
    <p class="muted small">
      {t.usage.lost}{" "}
      <button type="button" class="as-link" onClick={leave}>
        {t.usage.everywhere}
      </button>
    </p>
  );
}
