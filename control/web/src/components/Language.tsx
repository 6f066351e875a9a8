import { LANGUAGE, LANGUAGES, speak, t } from "../texts";

/** Which language the page speaks. A choice loads it anew; a draft and its uploads go on. */
export function Language() {
  return (
    <label class="language muted small">
      <span>{t.language.label}</span>
      <select value={LANGUAGE} onChange={(event) => speak(event.currentTarget.value)}>
        {Object.entries(LANGUAGES).map(([code, name]) => (
          <option key={code} value={code} lang={code}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
