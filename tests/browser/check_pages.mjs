// Open every built page in a headless browser, wide and narrow, light and dark, and fail on anything a reader would
// stumble over: a request that leaves the machine, a console error, mathematics left unrendered or in error, an image that
// is missing or has no alternative text, a page that scrolls sideways.
//
//   make book
//   npm install --prefix "$TOOLS" playwright-core          any folder outside the repository, with chromium installed
//   NODE_PATH="$TOOLS/node_modules" node tests/browser/check_pages.mjs [--shots FOLDER] [page ...]
//
// A page is named by its stem (07_gaussian_mixture); without names every page is opened. With --shots, full-page pictures
// are written to FOLDER. CHROMIUM names the browser's program where it is not /usr/bin/chromium.
import { createRequire } from 'node:module';
import { mkdirSync, readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const { chromium } = createRequire(import.meta.url)('playwright-core'); // require, unlike import, honours NODE_PATH

const args = process.argv.slice(2);
const shotsAt = args.indexOf('--shots');
const shots = shotsAt < 0 ? null : args.splice(shotsAt, 2)[1];
const built = resolve(fileURLToPath(import.meta.url), '../../../_build/html/book');
const pages = readdirSync(built).filter(f => f.endsWith('.html') && (!args.length || args.includes(basename(f, '.html'))));
if (!pages.length) throw new Error(`no such page in ${built}`);
if (shots) mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND'],
});

function inspect() { // runs inside the page
  const found = [];
  const article = document.querySelector('article');
  const text = el => el.textContent.trim().replace(/\s+/g, ' ').slice(0, 60);
  for (const el of document.querySelectorAll('.math'))
    if (!el.querySelector('mjx-container')) found.push(`mathematics not rendered: ${text(el)}`);
  for (const el of document.querySelectorAll('mjx-merror, mjx-mtext[style*="red"]')) // red: an unknown command
    found.push(`mathematics in error: ${el.getAttribute('data-mjx-error') ?? text(el.closest('.math'))}`);
  for (const img of article.querySelectorAll('img')) {
    if (!img.complete || !img.naturalWidth) found.push(`image missing: ${img.getAttribute('src')}`);
    if (!img.alt || /[\\/]|\.(png|svg|jpe?g)$/.test(img.alt)) found.push(`image without alternative text: ${img.getAttribute('src')}`);
  }
  for (const el of article.querySelectorAll('.system-message, .problematic')) found.push(`problem in the page: ${text(el)}`);
  const [page, view] = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
  if (page > view) {
    const wide = [...article.querySelectorAll('*')].filter(el => el.getBoundingClientRect().right > view + 1);
    found.push(`page ${page} px wide in a window of ${view}: ${wide.slice(0, 3).map(el => `${el.tagName}.${el.className}`).join(', ')}`);
  }
  return found;
}

let problems = 0;
for (const file of pages) {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1280, 400]) {
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
      const page = await context.newPage();
      const found = [];
      page.on('request', r => /^(file|data|blob|about):/.test(r.url()) || found.push(`asks for ${r.url()}`));
      page.on('console', m => m.type() === 'error' && found.push(`console: ${m.text()}`));
      page.on('pageerror', e => found.push(`script error: ${e.message}`));
      await page.goto(pathToFileURL(join(built, file)).href, { waitUntil: 'load' });
      await page.evaluate(() => globalThis.MathJax?.startup?.promise);
      await page.waitForTimeout(200); // the theme's own scripts settle
      found.push(...await page.evaluate(inspect));
      // A print or a dropdown shows what is folded; look again with everything open.
      await page.evaluate(() => {
        document.querySelectorAll('details').forEach(d => { d.open = true; });
        document.querySelectorAll('.toggle-button.toggle-button-hidden').forEach(b => b.click());
      });
      await page.waitForTimeout(100);
      found.push(...(await page.evaluate(inspect)).filter(f => !found.includes(f)));
      if (shots) {
        const name = `${basename(file, '.html')}-${colorScheme}-${width}.png`;
        await page.evaluate(() => { // the theme scrolls an inner box on some widths; a picture wants all of it
          document.querySelectorAll('.bd-header-article, .bd-header').forEach(e => { e.style.position = 'static'; });
        });
        await page.screenshot({ path: join(shots, name), fullPage: true });
      }
      for (const f of found) console.log(`${file}, ${colorScheme}, ${width} px: ${f}`);
      problems += found.length;
      await context.close();
    }
  }
}
await browser.close();
console.log(`${pages.length} pages opened in 4 ways, ${problems} problems`);
process.exit(problems ? 1 : 0);
