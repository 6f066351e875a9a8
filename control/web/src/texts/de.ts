// Every text of the page in German.
import type { Texts } from ".";

export const de: Texts = {
  again: {
    away: "Video Refresher antwortet nicht. Bitte die Verbindung prüfen.",
    broken: "Bei Video Refresher ist etwas schiefgegangen.",
    busy: "Video Refresher ist ausgelastet oder startet gerade.",
    full: "Video Refresher hat zu viel zu tun.",
    storage: "Der Speicher antwortet nicht.",
    next: (seconds) => `Nächster Versuch in ${seconds} s.`,
    trying: "Neuer Versuch …",
    now: "Jetzt versuchen",
    waking: "Wird geweckt …",
  },
  api: {
    away: "Video Refresher antwortet nicht. Bitte die Verbindung prüfen; die Seite versucht es von selbst erneut.",
    lost: "Es kam keine Antwort. Vor einem neuen Versuch bitte nachsehen, ob es schon geschehen ist.",
    unexplained: (status) => `Die Antwort war ${status}, ohne Begründung.`,
    unknown: "Etwas ist schiefgegangen.",
  },
  app: {
    name: "Video Refresher",
    titles: { new: "Neuer Auftrag", history: "Aufträge", usage: "Verbrauch", batch: "Auftrag" },
    skip: "Zum Inhalt springen",
    navigation: "Hauptmenü",
    new: (videos) => (videos ? `Neu (${videos})` : "Neu"),
    batches: "Aufträge",
    usage: "Verbrauch",
    signOut: "Abmelden",
    signOutWhileSending: "Es werden noch Videos hochgeladen. Abmelden und das Hochladen beenden?",
  },
  draft: {
    notStarted: "Nicht gestartet: Mit einem Video stimmt etwas nicht. Bitte nachsehen oder es entfernen.",
    dropAgain: "Bitte die Videos hier entfernen und erneut hinzufügen.",
  },
  item: {
    again: "Bitte erneut versuchen.",
    keptAgain: "Was hochgeladen ist, bleibt erhalten; bitte erneut versuchen.",
  },
  look: {
    empty: "Die Datei ist leer.",
    unreadable: "Die Datei lässt sich nicht lesen. Wurde sie verschoben oder gelöscht?",
    noVideo: "Nur MP4- und MOV-Videos sind möglich. Diese Datei ist etwas anderes.",
  },
  parts: {
    away: "Der Speicher antwortet nicht; die Seite versucht es von selbst erneut.",
    refused: (status) => `Der Speicher hat einen Teil abgelehnt (${status}).`,
    noEtag: "Der Speicher verbirgt das ETag: In seinen CORS-Regeln fehlt es.",
  },
  signIn: {
    lead: "Viele neue Varianten von jedem Video.",
    again: "Erneut anmelden",
    ended:
      "Die Sitzung ist zu Ende; sie dauert höchstens 24 Stunden. Alles bleibt, wie es ist, und geht nach der Anmeldung weiter.",
    password: "Passwort",
    go: "Anmelden",
    busy: "Anmeldung läuft …",
    wrong: "Das Passwort ist falsch. Wer das hier betreibt, kennt es.",
    tooMany: "Zu viele Versuche mit einem falschen Passwort.",
    waitFor: (time) => `Ein neuer Versuch ist in ${time} möglich.`,
  },
};
