import {
  isArmed,
  isSubmitting,
  outputsCount,
  pending,
  ready,
  refused,
  stopSubmit,
  submitProblem,
  submitTrouble,
} from "../draft";
import { count } from "../words";
import { Notice } from "./Notice";

/** The one button. Pressed early, the batch starts by itself when its videos are there. */
export function Start() {
  const hasNothing = pending.value.length + ready.value.length === 0;
  if (isArmed.value)
    return (
      <div class="stack">
        <Notice>
          It starts by itself as soon as {count(pending.value.length, "video is", "videos are")} uploaded.
          Keep this page open until then.
        </Notice>
        <button
          type="button"
          class="wide"
          onClick={() => {
            isArmed.value = false;
          }}
        >
          Wait, not yet
        </button>
      </div>
    );
  if (submitTrouble.value)
    return (
      <div class="stack">
        <Notice>{submitTrouble.value}</Notice>
        <button type="button" class="wide" onClick={stopSubmit}>
          Wait, not yet
        </button>
      </div>
    );
  return (
    <div class="stack">
      {submitProblem.value && <Notice tone="bad">{submitProblem.value}</Notice>}
      <button
        type="button"
        class="primary wide large"
        disabled={hasNothing || isSubmitting.value}
        onClick={() => {
          submitProblem.value = null;
          isArmed.value = true;
        }}
      >
        {isSubmitting.value ? "Starting…" : `Make ${count(outputsCount.value, "video")}`}
      </button>
      <p class="muted small center">
        {refused.value.length > 0 && `Without ${count(refused.value.length, "file")} that cannot be used. `}
        Once it runs you can close this page.
      </p>
    </div>
  );
}
