// Small pictures beside words; never the only bearer of a meaning.

const PATHS = {
  plus: "M12 5v14M5 12h14",
  close: "m6 6 12 12M18 6 6 18",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.500v13l10.500-6.500z",
  retry: "M4 12a8 8 0 1 1 2.500 5.800M4 18v-5h5",
  download: "M12 4v11m-5-4.500 5 5 5-5M5 20h14",
  link: "M10 14a4 4 0 0 0 5.700 0l3-3A4 4 0 0 0 13 5.300l-1 1M14 10a4 4 0 0 0-5.700 0l-3 3a4 4 0 0 0 5.700 5.700l1-1",
  share:
    "M12 14.500V4m-4 3.500L12 4l4 3.500M7.500 11H6a1.500 1.500 0 0 0-1.500 1.500v6A1.500 1.500 0 0 0 6 20h12a1.500 1.500 0 0 0 1.500-1.500v-6A1.500 1.500 0 0 0 18 11h-1.500",
  trash: "M5 7h14M10 7V4.500h4V7M7 7l1 12.500h8L17 7",
  stop: "M7 7h10v10H7z",
  again:
    "M17 3.500 20.500 7 17 10.500M3.500 12V9.500A2.500 2.500 0 0 1 6 7h14M7 20.500 3.500 17 7 13.500M20.500 12v2.500A2.500 2.500 0 0 1 18 17H4",
  warn: "M12 8.500v4.500m0 3.500v.01M12 3.500 2.500 20h19z",
  film: "M4 6.500A1.500 1.500 0 0 1 5.500 5h13A1.500 1.500 0 0 1 20 6.500v11a1.500 1.500 0 0 1-1.500 1.500h-13A1.500 1.500 0 0 1 4 17.500zM8.500 5v14M15.500 5v14M4 12h16",
  check: "m5 12.500 4.500 4.500L19 7.500",
  bell: "M6.500 16.500V11a5.500 5.500 0 0 1 11 0v5.500l1.500 1.500H5zM10 20.500h4",
  left: "m14.500 5-7 7 7 7",
  right: "m9.500 5 7 7-7 7",
  sound: "M4 9.500v5h3.500L12 18.500v-13L7.500 9.500zM15.500 9a4 4 0 0 1 0 6M18 6.500a8 8 0 0 1 0 11",
  silence: "M4 9.500v5h3.500L12 18.500v-13L7.500 9.500zm12 0 5 5m0-5-5 5",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  upload: "M12 16V5m-5 4.500 5-5 5 5M5 20h14",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
