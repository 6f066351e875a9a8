// The files of a drop or a folder: its videos, however deep, without what is hidden or something else.
import { signal } from "@preact/signals";

const VIDEO = /\.(mp4|m4v|mov|qt|3gp|3g2)$/i;

/** How many files of folders were left out of the draft. */
export const leftOut = signal(0);

interface Found {
  path: string;
  file: File | null; // null: it cannot be read
}

/**
 * Return the files of a drop: those that were dropped by themselves, and the videos of the folders.
 *
 * To be called while the event lasts, since the browser forgets its entries after it.
 */
export async function dropped(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.map((entry) => (entry ? filesIn(entry, "") : [])));
  return found.flatMap((files, index) =>
    entries[index]?.isDirectory ? videosOf(files) : files.flatMap(({ file }) => file ?? []),
  );
}

/** Return the videos of a folder that was chosen. */
export const ofFolder = (files: Iterable<File>): File[] =>
  videosOf([...files].map((file) => ({ path: file.webkitRelativePath, file })));

function videosOf(files: Found[]): File[] {
  const sorted = files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const videos = sorted.flatMap(({ path, file }) =>
    file && VIDEO.test(path) && !isHidden(path) ? file : [],
  );
  leftOut.value += files.length - videos.length;
  return videos;
}

/** The folder that was chosen may have any name. */
const isHidden = (path: string): boolean =>
  path
    .split("/")
    .slice(1)
    .some((part) => part.startsWith(".") || part === "__MACOSX");

async function filesIn(entry: FileSystemEntry, above: string): Promise<Found[]> {
  const path = `${above}${entry.name}`;
  if (entry.isDirectory) {
    const inside = await all((entry as FileSystemDirectoryEntry).createReader());
    return (await Promise.all(inside.map((one) => filesIn(one, `${path}/`)))).flat();
  }
  const file = await new Promise<File | null>((resolve) =>
    (entry as FileSystemFileEntry).file(resolve, () => resolve(null)),
  );
  return [{ path, file }];
}

/** A reader gives some entries at a time, and none at the end. One that fails ends too. */
async function all(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  const found: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve) =>
      reader.readEntries(resolve, () => resolve([])),
    );
    if (!some.length) return found;
    found.push(...some);
  }
}
