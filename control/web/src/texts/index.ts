// The texts of the page in the language of its user: the one chosen on the page, else the browser's, else English.
// A visit loads the texts of one language.
import type { Texts } from "./en";

const KEY = "refresher.language";

/** What the page can speak, by code, each in its own words. */
export const LANGUAGES: Record<string, string> = { en: "English", de: "Deutsch" };

const language = (tag: string): string => tag.slice(0, 2).toLowerCase();
const wanted = [localStorage.getItem(KEY) ?? "", ...navigator.languages.map(language)];

export const LANGUAGE: string = wanted.find((code) => Object.hasOwn(LANGUAGES, code)) ?? "en";
/** The browser's own region where it speaks this language: dates and numbers follow it. */
export const LOCALE: string = navigator.languages.find((tag) => language(tag) === LANGUAGE) ?? LANGUAGE;
const { texts } = await (LANGUAGE === "de" ? import("./de") : import("./en"));
export const t: Texts = texts(LOCALE);

document.documentElement.lang = LANGUAGE;

/** Choose a language. The page starts anew with it; a draft and its uploads go on. */
export function speak(code: string): void {
  localStorage.setItem(KEY, code);
  location.reload();
}
