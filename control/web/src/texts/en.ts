// Every text of the page in English. A part of the object belongs to the file that it is named after.
// Control sends the text of each reason and error itself (in English), so these are not here.

export const en = {
  again: {
    away: "Video Refresher does not answer. Check your connection.",
    broken: "Something went wrong at Video Refresher.",
    busy: "Video Refresher is busy, or it just starts.",
    full: "Video Refresher has too much to do.",
    storage: "The storage does not answer.",
    next: (seconds: number) => `Next try in ${seconds} s.`,
    trying: "Trying…",
    now: "Try now",
    waking: "Waking up…",
  },
  api: {
    away: "Video Refresher does not answer. Check your connection; the page tries again by itself.",
    lost: "No answer came. See whether it was done before you try again.",
    unexplained: (status: number) => `The answer was ${status}, without a reason.`,
    unknown: "Something went wrong.",
  },
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
  draft: {
    notStarted: "Not started: see what is wrong with a video, or remove it.",
    dropAgain: "Remove the videos here and drop them again.",
  },
  item: {
    again: "Try again.",
    keptAgain: "What was sent is kept; try again.",
  },
  look: {
    empty: "The file is empty.",
    unreadable: "The file cannot be read. Was it moved or deleted?",
    noVideo: "Only MP4 and MOV videos are taken. This file is something else.",
  },
  parts: {
    away: "The storage does not answer; the page tries again by itself.",
    refused: (status: number) => `The storage refused a part (${status}).`,
    noEtag: "The storage hides its ETag: its CORS rules lack it.",
  },
  signIn: {
    lead: "Many fresh variations of each video.",
    again: "Sign in again",
    ended:
      "Your session has ended; it lasts 24 hours at most. Everything stays as it is: go on after signing in.",
    password: "Password",
    go: "Sign in",
    busy: "Signing in…",
    wrong: "The password is wrong. Ask whoever runs this for it.",
    tooMany: "Too many tries with a wrong password.",
    waitFor: (time: string) => `You can try again in ${time}.`,
  },
};
