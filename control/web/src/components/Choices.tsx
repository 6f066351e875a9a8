import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import {
  type Choices as AllChoices,
  amount,
  choices,
  choose,
  EFFECTS,
  inRange,
  NAME_CHARS_MAX,
  objections,
  PLACEHOLDERS,
  STRENGTH,
  VARIATIONS,
} from "../choices";
import { outputsCount, quote } from "../draft";
import type { FrameRate, Preset, Quality } from "../shapes";
import { t } from "../texts";
import { PRESET } from "../words";

const say = t.choices;

/** What to make of the videos: the usual choices, and the rest folded away. */
export function Choices() {
  const of = choices.value;
  return (
    <div class="stack choices">
      <Selection
        label={say.what}
        value={of.preset ?? ""}
        options={{ "": say.variations, ...PRESET }}
        onChoose={(value) => choose({ preset: (value || null) as Preset | null })}
      />
      {!of.preset && <HowMany />}
      <p class="muted small">
        {of.preset ? say.inAllPreset(outputsCount.value) : say.inAll(outputsCount.value)}
      </p>
      <Text of="name" label={say.name} placeholder={say.namePlaceholder} isAtOnce />
      {!of.preset && (
        <>
          <Mirror />
          <Strength />
          <div class="field-pair">
            <Selection
              label={say.quality}
              value={of.quality}
              options={say.qualities}
              onChoose={(value) => choose({ quality: value as Quality })}
            />
            <Selection
              label={say.frameRate}
              value={of.frameRate}
              options={say.frameRates}
              onChoose={(value) => choose({ frameRate: value as FrameRate })}
            />
          </div>
        </>
      )}
      <Further />
    </div>
  );
}

/** The names of the fields as people see them. */
export const FIELDS: Partial<Record<keyof AllChoices, string>> = {
  name: say.name,
  machines: say.machines,
  budget: say.budget,
  deadline: say.deadline,
  webhook: say.webhook,
  template: say.template,
  seed: say.seed,
  without: say.without,
};

/** Bring someone to the field that cannot be used, and return how it is called. */
export function showObjection(): string | null {
  const name = (Object.keys(FIELDS) as (keyof AllChoices)[]).find((field) => objections.value[field]);
  if (!name) return null;
  const field = document.getElementById(fieldId(name));
  const folded = field?.closest("details");
  if (folded) folded.open = true;
  field?.focus();
  return FIELDS[name] ?? null;
}

const fieldId = (of: keyof AllChoices): string => `choice-${of}`;

function HowMany() {
  const set = (value: number) => {
    if (Number.isFinite(value)) choose({ variations: inRange(value) });
  };
  const { variations } = choices.value;
  return (
    <div class="field">
      <label for="variations">{say.howMany}</label>
      <div class="stepper">
        <button type="button" onClick={() => set(variations - 1)} aria-label={say.less}>
          −
        </button>
        <input
          id="variations"
          type="number"
          inputMode="numeric"
          min={VARIATIONS.least}
          max={VARIATIONS.most}
          value={variations}
          onInput={(event) => set(event.currentTarget.valueAsNumber)}
          onBlur={(event) => {
            event.currentTarget.value = String(variations);
          }}
        />
        <button type="button" onClick={() => set(variations + 1)} aria-label={say.more}>
          +
        </button>
      </div>
    </div>
  );
}

function Mirror() {
  const help = useId();
  return (
    <div class="field">
      <label class="switch">
        <span>{say.mirror}</span>
        <input
          type="checkbox"
          role="switch"
          class="toggle"
          checked={choices.value.mirrors}
          aria-checked={choices.value.mirrors}
          aria-describedby={help}
          onChange={(event) => choose({ mirrors: event.currentTarget.checked })}
        />
      </label>
      <p id={help} class="muted small">
        {say.mirrorHelp}
      </p>
    </div>
  );
}

function Strength() {
  const id = useId();
  const { strength } = choices.value;
  const percent = Math.round(100 * strength);
  return (
    <div class="field">
      <div class="row">
        <label for={id} class="strength">
          {say.strength}
        </label>
        <span class="muted small">{inWords(strength)}</span>
      </div>
      <input
        id={id}
        type="range"
        min={100 * STRENGTH.least}
        max={100 * STRENGTH.most}
        step={10}
        value={percent}
        aria-valuetext={`${inWords(strength)}, ${percent} %`}
        onInput={(event) => choose({ strength: event.currentTarget.valueAsNumber / 100 })}
      />
      <div class="row muted small" aria-hidden="true">
        <span>{say.strengths.subtle}</span>
        <span>{say.strengths.full}</span>
      </div>
    </div>
  );
}

function inWords(strength: number): string {
  if (strength >= STRENGTH.most) return say.strengths.full;
  if (strength > 0.6) return say.strengths.strong;
  return strength > 0.3 ? say.strengths.medium : say.strengths.subtle;
}

const FURTHER = ["machines", "budget", "deadline", "webhook", "template", "seed"] as const;

function Further() {
  const of = choices.value;
  const chosen = FURTHER.filter((name) => of[name]).length + Number(!of.preset && of.without.length > 0);
  const isTooLittle = !!quote.value && quote.value.cost_usd > amount(of.budget);
  return (
    <details class="further">
      <summary>
        {say.furtherChoices} {chosen > 0 && <span class="muted small">{say.chosen(chosen)}</span>}
      </summary>
      <div class="stack">
        <Text
          of="budget"
          label={say.budget}
          help={isTooLittle ? say.budgetTooSmall : say.budgetHelp}
          inputMode="decimal"
        />
        <Text of="deadline" label={say.deadline} help={say.deadlineHelp} inputMode="decimal" />
        <Text of="machines" label={say.machines} help={say.machinesHelp} inputMode="numeric" />
        {!of.preset && <Effects />}
        <Text
          of="template"
          label={say.template}
          help={say.templateHelp(PLACEHOLDERS.map((name) => `{${name}}`).join(" "))}
          placeholder="{source}_{n}"
        />
        <Text of="seed" label={say.seed} help={say.seedHelp} inputMode="numeric" />
        <Text
          of="webhook"
          label={say.webhook}
          help={say.webhookHelp}
          placeholder="https://…"
          inputMode="url"
        />
      </div>
    </details>
  );
}

function Effects() {
  const { without } = choices.value;
  const problem = objections.value.without;
  const help = useId();
  return (
    <fieldset class="field effects" aria-describedby={help}>
      <legend>{say.without}</legend>
      <div class="effects-choices">
        {EFFECTS.map((name, index) => (
          <label key={name}>
            <input
              id={index ? undefined : fieldId("without")}
              type="checkbox"
              class="effect"
              checked={!without.includes(name)}
              onChange={({ currentTarget: { checked } }) =>
                choose({
                  without: EFFECTS.filter((other) => (other === name ? !checked : without.includes(other))),
                })
              }
            />
            {say.effects[name]}
          </label>
        ))}
      </div>
      <Help id={help} problem={problem} />
    </fieldset>
  );
}

interface TextProps {
  of: "name" | (typeof FURTHER)[number];
  label: string;
  help?: string;
  placeholder?: string;
  inputMode?: "numeric" | "decimal" | "url";
  isAtOnce?: boolean; // else what was typed counts once the field is left
}

function Text({ of, label, help = "", placeholder = "", inputMode, isAtOnce = false }: TextProps) {
  const id = useId();
  const problem = objections.value[of];
  const take = (event: { currentTarget: HTMLInputElement }) =>
    choose({ [of]: of === "name" ? event.currentTarget.value : event.currentTarget.value.trim() });
  return (
    <div class="field">
      <label for={fieldId(of)}>{label}</label>
      <input
        id={fieldId(of)}
        type="text"
        inputMode={inputMode}
        autocomplete="off"
        spellcheck={of === "name"}
        maxLength={of === "name" ? NAME_CHARS_MAX : undefined}
        placeholder={placeholder}
        value={choices.value[of]}
        aria-invalid={problem ? true : undefined}
        aria-describedby={id}
        onInput={isAtOnce ? take : undefined}
        onChange={isAtOnce ? undefined : take}
      />
      <Help id={id} problem={problem}>
        {help}
      </Help>
    </div>
  );
}

function Help({
  id,
  problem,
  children,
}: {
  id: string;
  problem: string | undefined;
  children?: ComponentChildren;
}) {
  return (
    <p id={id} class={`small ${problem ? "bad-text" : "muted"}`} role={problem ? "alert" : undefined}>
      {problem ?? children}
    </p>
  );
}

function Selection(props: {
  label: string;
  value: string;
  options: Record<string, string>;
  onChoose: (value: string) => void;
}) {
  return (
    <label class="field">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.onChoose(event.currentTarget.value)}>
        {Object.entries(props.options).map(([value, name]) => (
          <option key={value} value={value}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
