// What points of a map have in common, and the colour of each group.

const MAX_GROUPS = 8;
const OTHERS = "others";

const WAYS = {
  folder: { name: "folder", of: folders },
  language: { name: "language", of: (points) => points.map(({ language }) => language) },
  kind: { name: "kind", of: (points) => points.map(({ kind }) => kind) },
};

export const GROUPINGS = Object.entries(WAYS).map(([key, { name }]) => [key, name]);

/**
 * Group points.
 * @returns {{groups: Array<{name: string, count: number, style: string}>, styles: string[]}} The largest first; and the
 *   style of each point.
 */
export function group(points, way) {
  const names = WAYS[way].of(points);
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const largest = [...counts].sort(([one, n], [other, m]) => m - n || one.localeCompare(other));
  // One that is left over has a colour of its own, too.
  const kept = largest.slice(0, largest.length <= MAX_GROUPS ? MAX_GROUPS : MAX_GROUPS - 1);
  const styles = new Map(kept.map(([name], n) => [name, `c${n}`]));
  const groups = kept.map(([name, count]) => ({ name, count, style: styles.get(name) }));
  const rest = points.length - groups.reduce((sum, { count }) => sum + count, 0);
  if (rest) groups.push({ name: OTHERS, count: rest, style: "rest" });
  return { groups, styles: names.map((name) => styles.get(name) ?? "rest") };
}

/** The first folder in which paths differ, or the file where all are in one. */
function folders(points) {
  const parts = points.map(({ path }) => path.split("/"));
  const shortest = Math.min(...parts.map((each) => each.length));
  let shared = 0;
  while (shared < shortest - 1 && parts.every((each) => each[shared] === parts[0][shared])) shared += 1;
  return parts.map((each) => (each.length > shared + 1 ? `${each[shared]}/` : each.at(-1)));
}
