// Every text of the page in English. A part of the object belongs to the file that it is named after.
// Control sends the text of each reason and error itself (in English), so these are not here.

export const en = {
  app: {
    name: "Video Refresher",
    titles: { new: "New batch", history: "Batches", usage: "Usage", batch: "Batch" },
    skip: "Skip to the content",
    navigation: "Main",
    new: (videos: number) => (videos ? `New (${videos})` : "New"),
    batches: "Batches",
    usage: "Usage",
    signOut: "Sign out",
    signOutWhileSending: "Videos are still being uploaded. Sign out and stop them?",
  },
  confirm: { no: "Keep it" },
  dialog: { close: "Close" },
  toast: { close: "Close" },
};
