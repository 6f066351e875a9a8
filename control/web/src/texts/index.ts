// The texts of the page in the language of its user: the one chosen on the page, else the browser's, else English.
import { de } from "./de";
import { en } from "./en";

export type Texts = typeof en;

const KEY = "refresher.language";
const OF: Record<string, Texts> = { en, de };

/** What the page can speak, by code, each in its own words. */
export const LANGUAGES: Record<string, string> = { en: "English", de: "Deutsch" };

const language = (tag: string): string => tag.slice(0, 2).toLowerCase();
const chosen = localStorage.getItem(KEY) ?? navigator.languages.map(language).find((code) => OF[code]);

export const LANGUAGE: string = chosen && OF[chosen] ? chosen : "en";
/** The browser's own region where it speaks this language: dates and numbers follow it. */
export const LOCALE: string = navigator.languages.find((tag) => language(tag) === LANGUAGE) ?? LANGUAGE;
export const t: Texts = OF[LANGUAGE] ?? en;

document.documentElement.lang = LANGUAGE;

/** Choose a language. The page starts anew with it; a draft and its uploads go on. */
export function speak(code: string): void {
  localStorage.setItem(KEY, code);
  location.reload();
}
