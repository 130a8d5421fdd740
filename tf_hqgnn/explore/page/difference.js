// What differs between two lists of items.

/**
 * Compare two lists.
 * @param {string[]} first
 * @param {string[]} second
 * @returns {{shared: number, marks: Map<string, number|null>[]}} for each list, how many places higher (> 0) or lower
 *   each of its items stands than in the other list; null for one that the other list hasn't got
 */
export function compare(first, second) {
  const places = [first, second].map((list) => new Map(list.map((id, place) => [id, place])));
  const marks = [first, second].map((list, side) => new Map(list.map((id, place) => {
    const other = places[1 - side].get(id);
    return [id, other === undefined ? null : other - place];
  })));
  return { shared: first.filter((id) => places[1].has(id)).length, marks };
}

/** The difference as a sentence. */
export function describe(first, second) {
  if (!first.length || !second.length) return "";
  const { shared, marks } = compare(first, second);
  if (shared === first.length && shared === second.length) {
    const moved = [...marks[0].values()].filter(Boolean).length;
    return moved ? `The same ${shared} items, ${moved} of them at other places.` : "Both lists are the same.";
  }
  return `${shared} in both lists, ${first.length - shared} only in A, ${second.length - shared} only in B.`;
}
