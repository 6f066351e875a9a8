// Every text of the page in German.
import type { Texts } from ".";

export const de: Texts = {
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
  confirm: { no: "Behalten" },
  dialog: { close: "Schließen" },
  toast: { close: "Schließen" },
};
