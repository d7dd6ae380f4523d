// How the search ranks what it found: first the chapter that has the words in its title, then chapters, last the lists.
const LISTS = /(api|12_errata|ledger|benchmarks|references|genindex|py-modindex)$/;
const CHAPTER = /\/\d\d_/;

function named(title) {
  const asked = (new URLSearchParams(location.search).get('q') ?? '').toLowerCase().match(/\w+/g) ?? [];
  const words = title.toLowerCase().match(/\w+/g) ?? [];
  return asked.length && asked.every((word) => words.includes(word)) ? (words.indexOf(asked[0]) < 2 ? 60 : 30) : 0;
}

// biome-ignore lint/correctness/noUnusedVariables: Sphinx's search reads it
var Scorer = {
  score: ([page, title, , , score]) =>
    score + (LISTS.test(page) ? -40 : CHAPTER.test(page) ? 20 + named(title.split(' > ')[0]) : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
