import { useSignal } from "@preact/signals";
import { amount, choices, objections } from "../choices";
import {
  isArmed,
  isSubmitting,
  items,
  ordered,
  outputsCount,
  pending,
  quote,
  quoteRefusal,
  ready,
  refused,
  stopSubmit,
  submitProblem,
  submitTrouble,
} from "../draft";
import { t } from "../texts";
import { money, span } from "../words";
import { showObjection } from "./Choices";
import { ORDER_ID } from "./DraftVideos";
import { Notice } from "./Notice";
import { roughly } from "./Price";

const say = t.start;

/** The one button, always in view. Pressed early, the batch starts by itself when its videos are there. */
export function Start() {
  const field = useSignal<string | null>(null); // that keeps it from starting
  const hasNothing = pending.value.length + ready.value.length === 0;
  const start = () => {
    submitProblem.value = null;
    field.value = showObjection();
    if (!field.value) isArmed.value = true;
  };
  const wait = () => {
    isArmed.value = false;
    stopSubmit();
  };
  const isBlocked = field.value && Object.keys(objections.value).length > 0;
  const problem = submitProblem.value ?? quoteRefusal.value ?? (isBlocked && say.mend(field.value ?? ""));
  const budget = amount(choices.value.budget); // remembered, and perhaps folded away
  const notes = [
    quote.value && quote.value.cost_usd > budget && say.overBudget(money(budget)),
    refused.value.length > 0 && say.without(refused.value.length),
    ordered.value.length > 1 && say.batches(ordered.value.length),
  ].filter(Boolean);
  return (
    <section class="start" aria-label={say.label}>
      {isArmed.value && pending.value.length > 0 && <Notice>{say.armed(pending.value.length)}</Notice>}
      {submitTrouble.value && <Notice>{submitTrouble.value}</Notice>}
      {problem && <Notice tone="bad">{problem}</Notice>}
      {quote.value?.fits === false && <Notice tone="bad">{t.price.fitsNot}</Notice>}
      <div class="start-row">
        <p class="start-text">
          <span class="start-sum">
            <strong>{amountText()}</strong>
            {quote.value && <span>{estimate(quote.value.cost_usd, quote.value.makespan_s)}</span>}
          </span>
          {notes.length > 0 ? (
            <span class="muted small">{notes.join(" ")}</span>
          ) : (
            <span class="muted small start-hint">{pending.value.length > 0 ? say.stay : say.canClose}</span>
          )}
        </p>
        <div class="start-buttons">
          <button type="button" class="large start-change" aria-label={say.changeWhat} onClick={showOrder}>
            {say.change}
          </button>
          {isArmed.value || submitTrouble.value ? (
            <button type="button" class="large" onClick={wait}>
              {say.wait}
            </button>
          ) : (
            <button
              type="button"
              class="primary large"
              disabled={hasNothing || isSubmitting.value}
              onClick={start}
            >
              {isSubmitting.value ? say.starting : say.make(outputsCount.value)}
            </button>
          )}
        </div>
      </div>
    </section>
  );
}

/** The choices are below the videos where there is one column: many videos hide them. */
function showOrder(): void {
  const order = document.getElementById(ORDER_ID);
  order?.scrollIntoView();
  order?.focus({ preventScroll: true });
}

function amountText(): string {
  const { preset, variations } = choices.value;
  const videos = items.value.length - refused.value.length;
  return preset || outputsCount.value !== videos * variations
    ? say.videos(videos)
    : say.times(videos, variations);
}

const estimate = (usd: number, seconds: number): string =>
  `${t.price.estimate} ${roughly(usd)}, ${span(seconds)}`;
