// How the search ranks what it found: chapters first, then pages of reference, last the lists.
const LISTS = /(api|12_errata|ledger|benchmarks|references|genindex|py-modindex)$/;
const CHAPTER = /\/\d\d_/;

// biome-ignore lint/correctness/noUnusedVariables: Sphinx's search reads it
var Scorer = {
  score: ([page, , , , score]) => score + (LISTS.test(page) ? -40 : CHAPTER.test(page) ? 20 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
