// Open every built page in a headless browser, wide and narrow, light and dark, and fail on anything a reader would
// stumble over: a request that leaves the machine, a console error, mathematics left unrendered or in error, an image
// that is missing or has no alternative text, a page that scrolls sideways, whatever axe finds, a formula that stops
// the Tab key, a film that does not play, a word of the glossary without its meaning, a switch that does not open the
// folds, a script that is not the book's and runs; and a chapter that is too long (see LIMITS), takes other than the
// minutes it says (a hundred words or formulas among them are one, a displayed formula or a picture half), or whose
// code or prints are cut.
//
//   make test-pages                                        after `make book`; it needs npm and chromium
//   make test-pages PAGES=--quick                          two of the four ways, without axe, the Tab key and films
//   make test-pages PAGES="--shots FOLDER 07_gaussian_mixture"
//
// A page is named by its stem; without names every page is opened, as many at a time as there are processors. With
// --shots, full-page pictures are written to FOLDER.

import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { here, launch, require } from './browser.mjs';

const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

// For a chapter with its folds shut, at 1280 x 900: screens, visible words, and in screens the place of the first picture
// and the longest stretch without one; and the megabytes of the page with its pictures.
const STOPS = 170; // of the Tab key, in a chapter with its folds shut
const FILM = 250e3; // bytes
const SPINE = 130; // screens of chapters 1 to 12 together
const LIMITS = { screens: 12, words: 2000, first: 1.5, gap: 3, megabytes: 1 };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean' }, shots: { type: 'string' } },
});
const { quick, shots } = values;
const built = resolve(here, '../../_build/html/book');
const pages = readdirSync(built).filter(
  (f) => f.endsWith('.html') && (!positionals.length || positionals.includes(basename(f, '.html'))),
);
if (!pages.length) throw new Error(`no such page in ${built}`);
if (shots) mkdirSync(shots, { recursive: true });

const browser = await launch();

function inspect() {
  // runs inside the page
  const found = [];
  const article = document.querySelector('article');
  const text = (el) => el.textContent.trim().replace(/\s+/g, ' ').slice(0, 60);
  for (const el of document.querySelectorAll('.math'))
    if (!el.querySelector('mjx-container')) found.push(`mathematics not rendered: ${text(el)}`);
  for (const el of document.querySelectorAll('mjx-merror, mjx-mtext[style*="red"]')) // red: an unknown command
    found.push(`mathematics in error: ${el.getAttribute('data-mjx-error') ?? text(el.closest('.math'))}`);
  for (const img of article.querySelectorAll('img')) {
    if (!img.complete || !img.naturalWidth) found.push(`image missing: ${img.getAttribute('src')}`);
    if (!img.alt || /[\\/]|\.(png|svg|jpe?g)$/.test(img.alt))
      found.push(`image without alternative text: ${img.getAttribute('src')}`);
  }
  for (const img of article.querySelectorAll('.cell_output figure > img, figure > img[src$=".svg"]')) {
    // 9 points, the smallest of the labels, are 25 pixels of the file, or 12 of a drawing
    const size = img.src.endsWith('.svg') ? 12 : 25;
    const label = (size * img.getBoundingClientRect().width) / img.naturalWidth;
    if (img.checkVisibility() && label < 8.9) found.push(`labels of ${label.toFixed(1)} px: ${img.alt.slice(0, 40)}`);
  }
  for (const el of article.querySelectorAll('.schematic text, .schematic tspan')) {
    const { width } = el.ownerSVGElement.getBoundingClientRect();
    const size = (parseFloat(getComputedStyle(el).fontSize) * width) / el.ownerSVGElement.viewBox.baseVal.width;
    if (el.checkVisibility() && size < 8.9) found.push(`drawn words of ${size.toFixed(1)} px: ${text(el)}`);
  }
  for (const head of article.querySelectorAll('th')) {
    const texts = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);
    while (texts.nextNode())
      for (const { index, 0: word } of texts.currentNode.data.matchAll(/\w+/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, index);
        range.setEnd(texts.currentNode, index + word.length);
        const lines = new Set([...range.getClientRects()].map((box) => box.top));
        if (lines.size > 1) found.push(`a word broken: ${word}`);
      }
  }
  for (const el of article.querySelectorAll('.system-message, .problematic'))
    found.push(`problem in the page: ${text(el)}`);
  const [page, view] = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
  if (page > view) {
    const wide = [...article.querySelectorAll('*')].filter((el) => el.getBoundingClientRect().right > view + 1);
    found.push(
      `page ${page} px wide in a window of ${view}: ${wide
        .slice(0, 3)
        .map((el) => `${el.tagName}.${el.className}`)
        .join(', ')}`,
    );
  }
  return found;
}

function measure() {
  // a chapter as a reader meets it
  const article = document.querySelector('article');
  const shown = (el) => el.checkVisibility() && !el.closest('details:not([open]) > :not(summary)');
  const { top, height } = article.getBoundingClientRect();
  const pictures = [...article.querySelectorAll('img, canvas, .schematic svg')]
    .filter(shown)
    .map((el) => el.getBoundingClientRect())
    .filter((box) => box.height > 60)
    .map((box) => (box.top - top) / 900);
  let words = 0;
  const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const el = texts.currentNode.parentElement;
    if (!el.closest('pre, mjx-container, script, style, summary, .cell_output') && shown(el))
      words += texts.currentNode.textContent.split(/\s+/).filter(Boolean).length;
  }
  const stops = [0, ...pictures, height / 900];
  const gap = Math.max(...stops.slice(1).map((y, i) => y - stops[i]));
  const formulas = [...article.querySelectorAll('mjx-container')].filter(shown);
  const displayed = formulas.filter((el) => el.getAttribute('display')).length;
  const minutes = (words + formulas.length - displayed) / 100 + (displayed + pictures.length) / 2;
  const said = Number(article.textContent.match(/(\d+) minutes\./)?.[1]);
  return { screens: height / 900, words, first: pictures[0] ?? Infinity, gap, minutes, said };
}

function cut(what) {
  // what a reader would have to scroll sideways
  return [...document.querySelectorAll(what)]
    .filter((el) => el.checkVisibility())
    .filter((el) => el.scrollWidth > el.clientWidth + 1)
    .map((el) => `cut at the right, ${el.scrollWidth} px in ${el.clientWidth}: ${el.textContent.trim().slice(0, 60)}`);
}

/** The size of a page with the pictures in it, without the files that pages share. */
async function megabytes(page) {
  const pictures = await page.evaluate(() => [...document.querySelectorAll('article img')].map((img) => img.src));
  const files = new Set([page.url(), ...pictures.filter((address) => address.startsWith('file:'))]);
  return [...files].reduce((sum, address) => sum + statSync(fileURLToPath(address)).size, 0) / 1e6;
}

/** What the Tab key finds: formulas, things whose focus is not seen, too many stops. */
async function tabStops(page) {
  let [stops, formulas, unseen] = [0, 0, ''];
  for (let i = 0; i < 600; i++) {
    await page.keyboard.press('Tab');
    const { where, seen, name } = await page.evaluate(() => {
      const el = document.activeElement;
      const { outlineStyle, boxShadow } = getComputedStyle(el);
      return {
        where: el === document.body ? 'end' : el.closest('span.math') ? 'formula' : 'other',
        seen: outlineStyle !== 'none' || boxShadow !== 'none',
        name: `${el.tagName} ${el.className}`,
      };
    });
    if (where === 'end' && i) break;
    stops += 1;
    formulas += where === 'formula';
    if (!seen) unseen ||= name;
  }
  const found = [];
  if (formulas) found.push(`the Tab key stops at ${formulas} formulas`);
  if (unseen) found.push(`the focus is not seen on ${unseen}`);
  if (/\/\d\d_/.test(page.url()) && stops > STOPS) found.push(`${stops} stops of the Tab key, at most ${STOPS}`);
  return found;
}

/** What is wrong with a film: its size, its playing, or a frame that does not show the numbers it is made of. */
async function film(root) {
  const found = [];
  const bytes = await root.evaluate((el) => el.outerHTML.length);
  if (bytes > FILM) found.push(`a film of ${bytes} bytes, at most ${FILM}`);
  await root.scrollIntoViewIfNeeded();
  const slider = root.locator('input[type=range]').first();
  await slider.waitFor({ timeout: 5000 });
  await slider.evaluate((el) => {
    el.value = 0;
  });
  const button = root.getByRole('button');
  if ((await button.textContent()) === 'Play') await button.click();
  await root.page().waitForTimeout(700);
  if (!(+(await slider.inputValue()) > 0)) found.push('a film does not play');
  const off = await root.evaluate((el) => {
    const { kind, shape, series } = JSON.parse(el.dataset.player);
    const [frames, rows, columns] = shape;
    const canvas = el.querySelector('canvas');
    const [slider, choice] = el.querySelectorAll('input[type=range]');
    const numbers = Uint8Array.from(atob(series[0].frames), (c) => c.charCodeAt(0));
    if (choice) {
      choice.value = 0;
      choice.dispatchEvent(new Event('input'));
    }
    const dark = document.documentElement.dataset.theme === 'dark';
    let [looked, wrong] = [0, 0];
    for (const frame of [0, frames >> 2, frames >> 1, frames - 1]) {
      slider.value = frame;
      slider.dispatchEvent(new Event('input'));
      const pixels = canvas.getContext('2d');
      if (kind === 'points') {
        const place = (byte) => ((byte - 128) / 127) * (canvas.width / 2);
        const shown = (byte) => byte > 1 && byte < 255; // what lies outside is not drawn
        for (let i = frame * rows; i < (frame + 1) * rows; i++) {
          const [x, y] = [numbers[2 * i], numbers[2 * i + 1]];
          const at = [canvas.width / 2 + place(x), canvas.height / 2 - place(y)].map(Math.floor);
          if (!shown(x) || !shown(y)) continue;
          looked += 1;
          wrong += pixels.getImageData(...at, 1, 1).data[3] < 200;
        }
      } else {
        const side = canvas.width / columns;
        for (let i = 0; i < rows * columns; i++) {
          const value = numbers[frame * rows * columns + i];
          const at = [(i % columns) + 0.5, Math.floor(i / columns) + 0.5].map((k) => Math.floor(k * side));
          looked += 1;
          wrong += pixels.getImageData(...at, 1, 1).data[0] !== (dark ? value : 255 - value);
        }
      }
    }
    return looked ? wrong : 'all';
  });
  if (off) found.push(`a film shows ${off} numbers otherwise than they are`);
  return found;
}

/** Whether a script that somebody put into the page would run. What its policy refuses is a console error. */
async function runsForeignScripts(context, url) {
  const page = await context.newPage();
  await page.goto(url, { waitUntil: 'load' });
  const ran = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.foreign = true';
    document.head.append(script);
    return globalThis.foreign === true;
  });
  await page.close();
  return ran;
}

/** What of the theme's own controls does not work. */
async function controls(page) {
  const found = [];
  const mode = () => page.evaluate(() => document.documentElement.dataset.mode);
  const before = await mode();
  await page.locator('button.theme-switch-button:visible').first().click();
  if ((await mode()) === before) found.push('the theme switch does nothing');
  await page.locator('[onclick^="toggleFullScreen"]:visible').first().click();
  await page.waitForTimeout(100);
  if (!(await page.evaluate(() => document.fullscreenElement))) found.push('the page does not fill the screen');
  await page.evaluate(() => document.exitFullscreen?.().catch(() => {}));
  return found;
}

/** Whether a word of the glossary fails to say what it means when it is pointed at. */
async function silentWord(page) {
  const word = page.locator('article a[href*="glossary.html#term-"]:visible').first();
  if (!(await word.count())) return false;
  await word.hover();
  return word.evaluate((el) => getComputedStyle(el, '::after').content.length < 10);
}

// What people look for, and where they should find it first: in the chapter about it, not in a list of functions.
const WORDS = {
  score: '01',
  'score matching': '01',
  kernel: '02',
  'reverse SDE': '03',
  'Euler-Maruyama': '',
  'predictor corrector': '04',
  'probability flow': '05',
  guidance: '06',
  'conditional generation': '06',
  'handwritten digits': '09',
  learn: '',
};

async function searches(context) {
  const found = [];
  const page = await context.newPage();
  for (const [words, chapter] of Object.entries(WORDS)) {
    const url = pathToFileURL(join(built, '../search.html')).href;
    await page.goto(`${url}?q=${encodeURIComponent(words)}`, { waitUntil: 'load' });
    const first = page.locator('ul.search li a').first();
    await first.waitFor({ timeout: 10000 });
    const to = await first.getAttribute('href');
    if (!/\/(?!12)\d\d_/.test(to) || !to.includes(`/${chapter}`))
      found.push(`a search for "${words}" finds ${to} first`);
  }
  await page.close();
  return found;
}

/** What is wrong with a page in one theme and width. */
async function look(file, colorScheme, width) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  const found = [];
  page.on('request', (r) => /^(file|data|blob|about):/.test(r.url()) || found.push(`asks for ${r.url()}`));
  page.on('console', (m) => m.type() === 'error' && found.push(`console: ${m.text()}`));
  page.on('pageerror', (e) => found.push(`script error: ${e.message}`));
  await page.goto(pathToFileURL(join(built, file)).href, { waitUntil: 'load' });
  await page.evaluate(() => globalThis.MathJax?.startup?.promise);
  await page.evaluate(() =>
    Promise.all(
      [...document.images].map((img) => {
        img.loading = 'eager'; // pictures further down load when they are reached
        return img.decode().catch(() => {});
      }),
    ),
  );
  await page.waitForTimeout(200); // the theme's own scripts settle
  found.push(...(await page.evaluate(inspect)));
  if (!quick) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run({ preload: false }));
    for (const v of violations) found.push(`axe: ${v.id}, ${v.nodes.length} times, first at ${v.nodes[0].target}`);
  }
  if (width === 400) found.push(...(await page.evaluate(cut, 'div.math, div.math > mjx-container')));
  if (!quick && colorScheme === 'light') found.push(...(await tabStops(page)));
  if (width === 1280 && colorScheme === 'light') {
    if (file === 'intro.html') found.push(...(await searches(context)), ...(await controls(page)));
    if (await runsForeignScripts(context, page.url())) found.push('a foreign script runs');
    if (/^\d\d_/.test(file)) {
      // a film has another height than its still
      for (const film of await page.locator('.player').all())
        if (await film.isVisible()) {
          await film.scrollIntoViewIfNeeded();
          await film.locator('input[type=range]').first().waitFor({ timeout: 5000 });
        }
      const measured = { ...(await page.evaluate(measure)), megabytes: await megabytes(page) };
      screens[file] = measured.screens;
      const { minutes, said } = measured;
      if (!(Math.abs(minutes - said) <= 5)) found.push(`says ${said} minutes, takes ${minutes.toFixed(0)}`);
      const limits = file.startsWith('12_') ? {} : LIMITS; // that one is a list
      for (const [what, limit] of Object.entries(limits))
        if (measured[what] > limit) found.push(`${what}: ${measured[what].toFixed(1)}, at most ${limit}`);
    }
    if (await silentWord(page)) found.push('a word of the glossary does not say what it means');
    const shut = () => page.locator('details.fold:not([open])').count();
    if (await shut()) {
      await page.getByRole('button', { name: 'Show everything' }).click();
      if (await shut()) found.push('the switch leaves folds shut');
    }
    // after the folds are open, as one may hold a film
    for (const root of quick ? [] : await page.locator('.player').all()) found.push(...(await film(root)));
  }
  // A print or a dropdown shows what is folded; look again with everything open.
  await page.evaluate(() => {
    document.querySelectorAll('details').forEach((d) => {
      d.open = true;
    });
    for (const button of document.querySelectorAll('.toggle-button.toggle-button-hidden')) button.click();
  });
  await page.waitForTimeout(100);
  found.push(...(await page.evaluate(inspect)).filter((f) => !found.includes(f)));
  if (width === 1280) found.push(...(await page.evaluate(cut, 'article pre, .pst-scrollable-table-container')));
  if (shots) {
    const name = `${basename(file, '.html')}-${colorScheme}-${width}.png`;
    await page.evaluate(() => {
      // the theme scrolls an inner box on some widths; a picture wants all of it
      document.querySelectorAll('.bd-header-article, .bd-header').forEach((e) => {
        e.style.position = 'static';
      });
    });
    await page.screenshot({ path: join(shots, name), fullPage: true });
  }
  await context.close();
  return found;
}

const screens = {};
const themes = ['light', 'dark'];
const ways = themes.flatMap((theme) => [1280, 400].map((width) => [theme, width]));
const chosen = ways.filter(([theme, width]) => !quick || (theme === 'light') === (width === 1280));
const left = pages.flatMap((file) => chosen.map((way) => [file, ...way]));
let problems = 0;

async function lookAtWhatIsLeft() {
  for (let next = left.shift(); next; next = left.shift()) {
    const found = await look(...next);
    for (const f of found) console.log(`${next[0]}, ${next[1]}, ${next[2]} px: ${f}`);
    problems += found.length;
  }
}

await Promise.all(Array.from({ length: availableParallelism() }, lookAtWhatIsLeft));
await browser.close();
const spine = Object.entries(screens).filter(([file]) => !/^(00|13)/.test(file));
const total = spine.reduce((sum, [, each]) => sum + each, 0);
if (total > SPINE) console.log(`${total.toFixed(1)} screens of chapters, at most ${SPINE}`);
problems += total > SPINE;
console.log(
  `${pages.length} pages opened in ${chosen.length} ways, ${total.toFixed(1)} screens of chapters, ${problems} problems`,
);
process.exit(problems ? 1 : 0);
