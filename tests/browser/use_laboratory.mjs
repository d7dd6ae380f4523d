// Use the built laboratory as a reader would, in a headless browser, wide and narrow, light and dark, by pointer, by keys
// and by touch, and fail where it asks for anything, reports an error, shows NaN, loses a setting or hinders anyone.
//
//   make test-lab                                        after `make book`
//   make test-lab LAB=--write                            also writes lab_python.json, the programs that pytest runs
//   make test-lab LAB=--still                            also takes the picture for print, still.webp
//   make test-lab LAB=--speed                            also measures frames a second
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { here, launch, problems, require } from './browser.mjs';

const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const root = join(here, '../..');
const address = pathToFileURL(join(root, '_build/html/book/laboratory.html')).href;
const wanted = (option) => process.argv.includes(option);
const { problem, count } = problems();
const browser = await launch();

/** A page at a setting, its errors recorded. */
async function open(setting = '', { width = 1280, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, ...options });
  const page = await context.newPage();
  page.on('request', (r) => /^(file|data|blob|about):/.test(r.url()) || problem(`asks for ${r.url()}`));
  page.on('console', (m) => m.type() === 'error' && problem(`console at ${setting}: ${m.text()}`));
  page.on('pageerror', (e) => problem(`script error at ${setting}: ${e.message}`));
  await page.goto(`${address}${setting && `#${setting}`}`);
  return page;
}

/** Wait until all runs are computed, and go to the end of the film. */
async function computed(page) {
  const shown = () => {
    const [runs, { target }] = [sdelib.page.film.runs(), sdelib.page.state()];
    return runs.every((run) => run.done && run.name === target) && runs.length > 0;
  };
  await page.waitForFunction(shown, null, { timeout: 120000 });
  await page.evaluate(() => sdelib.page.film.go(1, false));
  await page.waitForTimeout(150);
}

const facts = (page) => page.locator('.lab-facts').allTextContents();
const state = (page) => page.evaluate(() => sdelib.page.state());
const settled = (page) => page.waitForTimeout(450); // the address is written a little later
const close = (page) => page.context().close();

// What the page weighs, with everything that only it loads

const folder = join(root, 'book/_static/lab');
const weight = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
if (weight > 300e3) problem(`the laboratory weighs ${weight} bytes`);
console.log(`scripts, weights, styles and still: ${Math.round(weight / 1000)} kB`);

// Every thing to try, and hostile addresses: nothing hangs, nothing shows NaN, the address brings the setting back

const page = await open();
const tries = await page.evaluate(() => sdelib.page.TRIES);
const wrongs = Object.keys(await page.evaluate(() => sdelib.settings.WRONG)).slice(1);
const needs = {
  beta_itself: '',
  geometric_without_log: '&a.process=VESDE',
  backwards: '&a.solver=ancestral&a.corrector_steps=2',
  variance_for_its_root: '&a.solver=reverse_diffusion',
  g_for_g_squared: '&a.eta=0',
  mean_from_the_noisy_state: '&a.known=x',
};
const SETTINGS = [
  ...Object.values(tries),
  ...wrongs.map((name) => `target=plane&n=400&a.n_steps=30${needs[name] ?? ''}&a.wrong=${name}`),
  'a.score=learned&a.process=FlowSDE&a.alpha_end=0.01&a.solver=adams&a.n_steps=30',
  'target=line&a.label=2&a.scale=2&a.solver=adams&a.n_steps=12&a.process=CosineSDE',
  'target=line&a.solver=dpm_solver_2m&a.n_steps=15&a.process=FlowSDE&a.alpha_end=0.01&a.grid=edm',
  'target=plane&a.known=y&a.value=-1&a.solver=ancestral&a.corrector_steps=1&a.process=SubVPSDE',
  'target=plane&components=0.5,-1,0,0.3,0.1,45;0.5,1,0,0.3,0.3,0&a.solver=heun&a.grid=log_snr&a.process=VESDE&a.sigma_max=20',
  'target=digits&a.process=FlowSDE&a.alpha_end=0.01&a.solver=heun&a.n_steps=8&a.label=3&a.scale=2',
  'target=digits&a.solver=ancestral&a.n_steps=30&a.corrector_steps=1',
  'target=digits&a.n_steps=40&a.eta=0&a.wrong=g_for_g_squared',
  'target=drawing&points=-0.5,0;0,0.5;0.5,0&smooth=0.1&a.solver=euler_maruyama&a.eta=0.5&a.grid=uniform',
];
const HOSTILE = [
  'n=1e9&seed=-5&a.n_steps=NaN&a.process=nothing&b.=1&=&x',
  'target=plane&components=0,0,0,0,0,0;0,1,1,0,1,999',
  'target=plane&components=;;;',
  'target=line&components=1,99,-3',
  'target=drawing&points=',
  'target=drawing&points=NaN,2;0,Infinity;a,b',
  'a.process=VESDE&a.sigma_min=1&a.sigma_max=1e300',
  'target=plane&a.process=VESDE&a.wrong=signs_of_the_other_clock&a.n_steps=500&n=200',
  'target=line&a.label=1&a.scale=10&a.n_steps=3&a.solver=reverse_diffusion',
  'target=plane&a.corrector_steps=5&a.snr=0.5&a.solver=heun',
  'constructor=1&__proto__=2&a.__proto__=3&a.constructor=4&target=__proto__&a.process=constructor',
  'a.score=learned&a.process=CosineSDE&a.beta_max=40&n=200&a.n_steps=20',
  'at=7&target=%E0%A4%A',
  'target=digits&direction=forward&a.wrong=shrink_twice&a.known=x&a.label=16&a.n_steps=2&a.process=VESDE&a.sigma_max=200',
];
const programs = {};
for (const setting of [...SETTINGS, ...HOSTILE]) {
  await page.evaluate((s) => sdelib.page.arrive(s), setting);
  await computed(page);
  for (const text of await facts(page)) if (/NaN|Infinity|undefined/.test(text)) problem(`shows ${text} at ${setting}`);
  const back = await page.evaluate(() => {
    const now = sdelib.page.state();
    const again = sdelib.settings.decode(sdelib.settings.encode(now));
    return [
      JSON.stringify({ ...now, b: now.compare && now.b }),
      JSON.stringify({ ...again.state, b: now.compare && again.state.b }),
    ];
  });
  if (back[0] !== back[1]) problem(`the address loses a setting of ${setting}:\n  ${back.join('\n  ')}`);
  if (HOSTILE.includes(setting)) continue;
  for (const [k, which] of (await state(page)).compare
    ? [
        [0, 'a'],
        [1, 'b'],
      ]
    : [[0, 'a']]) {
    programs[`${setting} (${which})`] = await page.evaluate(
      ([k, which]) => {
        const [now, run] = [sdelib.page.state(), sdelib.page.film.runs()[k]];
        const measured = run.backward ? run.measure(run.states.length - 1) : null;
        return { program: sdelib.python.program(now, now[which]), ...measured, lost: run.note !== '' };
      },
      [k, which],
    );
  }
}
const book = join(root, 'book');
const links = readdirSync(book)
  .filter((name) => name.endsWith('.md'))
  .flatMap((name) =>
    [...readFileSync(join(book, name), 'utf8').matchAll(/\{lab\}`[^<`]*<([^>]*)>`/g)].map((m) => [name, m[1]]),
  );
for (const [name, setting] of links) {
  await page.evaluate((s) => sdelib.page.arrive(s), setting);
  const said = await page.locator('.lab-note').textContent();
  if (said) problem(`${name} links to ${setting}: ${said}`);
}
console.log(`${links.length} links from the book opened`);
await page.evaluate(() => sdelib.page.arrive('n=1e9&a.n_steps=0'));
const note = await page.locator('.lab-note').textContent();
if (!/n must be from 10 to 2000, got 1000000000: 2000 is used/.test(note))
  problem(`no note on what is out of bounds: ${note}`);
await close(page);

const stored = join(here, 'lab_python.json');
const text = `${JSON.stringify(programs, (_, v) => (typeof v === 'number' ? Number(v.toPrecision(3)) : v), 1)}\n`;
if (wanted('--write')) writeFileSync(stored, text);
const known = JSON.parse(readFileSync(stored, 'utf8'));
for (const [name, { program }] of Object.entries(programs))
  if (known[name]?.program !== program) problem(`another program than stored, renew it by --write: ${name}`);
console.log(`${SETTINGS.length} settings and ${HOSTILE.length} hostile addresses opened`);

// By keys alone

const keys = await open('target=plane&at=1');
await computed(keys);
await keys.locator('.lab-editor').focus();
const x = (await state(keys)).components.plane[0].x;
for (let i = 0; i < 3; i++) await keys.keyboard.press('ArrowRight');
if (!((await state(keys)).components.plane[0].x > x + 0.25)) problem('arrow keys do not move a component');
await keys.locator('[data-key="a.n_steps"]').focus();
await keys.keyboard.press('Home');
if ((await state(keys)).a.n_steps !== 1) problem('Home does not take the steps to 1');
for (let i = 0; i < 4; i++) await keys.keyboard.press('ArrowRight');
if ((await state(keys)).a.n_steps !== 5) problem('arrow keys do not set the steps');
await keys.locator('[data-key="add"]').focus();
await keys.keyboard.press('Enter');
if ((await state(keys)).components.plane.length !== 4) problem('Enter does not add a component');
await keys.locator('[data-key="remove"]').focus();
for (let i = 0; i < 6; i++) await keys.keyboard.press('Enter');
if ((await state(keys)).components.plane.length !== 1) problem('the last component can be removed, or others cannot');
await keys.locator('[data-key="target"]').selectOption('drawing');
await keys.locator('[data-key="clear"]').click();
await keys.locator('.lab-editor').focus();
for (const key of ['ArrowUp', 'Space', 'ArrowUp', 'ArrowUp', 'Enter']) await keys.keyboard.press(key);
if (JSON.stringify((await state(keys)).points) !== '[[0,0.05],[0,0.15]]') problem('the pen does not draw by keys');
await keys.locator('[data-key="compare"]').focus();
await keys.keyboard.press('Space');
if ((await keys.locator('canvas:visible').count()) !== 3) problem('Space does not set two runs side by side');
if ((await keys.evaluate(() => document.activeElement.dataset.key)) !== 'compare')
  problem('the focus is lost by a change');
await settled(keys);
const shared = await keys.evaluate(() => location.hash.slice(1));
await close(keys);
const again = await open(shared);
await settled(again);
if ((await again.evaluate(() => location.hash.slice(1))) !== shared || (await state(again)).points.length !== 2)
  problem(`the address does not bring a setting back: ${shared}`);
await again.goto(`${address}?${shared.replaceAll(',', '%2C')}`); // as a chapter's link asks, and a mail may escape it
await settled(again);
if ((await state(again)).points.length !== 2 || again.url() !== `${address}#${shared}`)
  problem(`a chapter's link does not bring a setting: ${again.url()}`);
await close(again);

// By pointer and by touch

const hand = await open('target=plane&at=1', { width: 400, hasTouch: true });
await computed(hand);
const paper = hand.locator('.lab-editor');
await paper.scrollIntoViewIfNeeded();
await paper.evaluate((el) => el.scrollIntoView({ block: 'center', behavior: 'instant' }));
const middle = (await state(hand)).components.plane[1];
const reach = await hand.evaluate(() => Math.max(2, sdelib.run.reach_of(sdelib.run.target_of(sdelib.page.state()))));
const box = await paper.boundingBox();
const spot = (px, py) => [box.x + (box.width * (1 + px / reach)) / 2, box.y + (box.height * (1 - py / reach)) / 2];
await hand.mouse.move(...spot(middle.x, middle.y));
await hand.mouse.down();
await hand.mouse.move(...spot(0, 1.5), { steps: 4 });
await hand.mouse.up();
const moved = (await state(hand)).components.plane[1];
if (Math.hypot(moved.x, moved.y - 1.5) > 0.1) problem(`a component dragged to (0, 1.5) is at (${moved.x}, ${moved.y})`);
await hand.locator('[data-key="target"]').selectOption('drawing');
await hand.locator('[data-key="clear"]').click();
await paper.evaluate((el) => el.scrollIntoView({ block: 'center', behavior: 'instant' }));
const sheet = await paper.boundingBox();
await hand.mouse.move(sheet.x + 40, sheet.y + 40);
await hand.mouse.down();
await hand.mouse.move(sheet.x + 200, sheet.y + 200, { steps: 20 });
await hand.mouse.up();
if ((await state(hand)).points.length < 10) problem('the pointer does not draw');
await computed(hand);
for (const canvas of await hand.locator('canvas:visible').all())
  await canvas.evaluate((el) => el.dispatchEvent(new Event('contextrestored')));
await close(hand);

// For everyone: accessibility, targets that a finger meets, no motion where none is wanted, paper, no script

for (const colorScheme of ['light', 'dark'])
  for (const width of [1280, 400])
    for (const setting of [
      '',
      'target=plane&compare=1&a.label=1&b.wrong=plus_for_minus&at=0.5',
      'target=drawing',
      'target=line',
      'target=digits&a.n_steps=3&at=1',
    ]) {
      const seen = await open(setting, { width, colorScheme });
      await computed(seen);
      await seen.evaluate(() => {
        for (const details of document.querySelectorAll('.laboratory details')) details.open = true;
      });
      await seen.evaluate(axe);
      const { violations } = await seen.evaluate(() => globalThis.axe.run('article', { preload: false }));
      for (const v of violations) problem(`axe, ${colorScheme}, ${width}, ${setting}: ${v.id} at ${v.nodes[0].target}`);
      const small = await seen.evaluate(() =>
        [...document.querySelectorAll('.laboratory :is(button, select, input, summary, canvas[tabindex])')]
          .filter((el) => el.checkVisibility())
          .map((el) => [el, (el.type === 'checkbox' ? el.closest('label') : el).getBoundingClientRect()])
          .filter(([, { width, height }]) => width < 24 || height < 24)
          .map(([el]) => `${el.tagName} ${el.dataset.key ?? el.textContent}`),
      );
      if (small.length) problem(`too small for a finger, ${width}: ${small}`);
      const [wide, view] = await seen.evaluate(() => [
        document.documentElement.scrollWidth,
        document.documentElement.clientWidth,
      ]);
      if (wide > view) problem(`${wide} px wide in a window of ${view} at ${setting}`);
      await close(seen);
    }

const calm = await open('', { reducedMotion: 'reduce' });
await calm.waitForTimeout(300);
const slider = calm.locator('.lab-film input');
if ((await slider.inputValue()) !== '120' || (await calm.locator('.lab-play').textContent()) !== 'Play')
  problem('a film plays where no motion is wanted');
await calm.emulateMedia({ media: 'print' });
if (!(await calm.locator('.lab-still img').isVisible()) || (await calm.locator('.lab-stage').isVisible()))
  problem('no still picture in print');
await close(calm);
const plain = await open('', { javaScriptEnabled: false });
if (!(await plain.locator('.lab-still img').isVisible())) problem('no still picture without JavaScript');
await close(plain);

if (wanted('--still')) {
  const still = await open('compare=1&b.score=learned&a.solver=adams&b.solver=adams&n=600&at=1', { width: 1000 });
  await computed(still);
  const picture = await still.evaluate(() => {
    const both = document.createElement('canvas');
    [both.width, both.height] = [840, 416];
    const ink = both.getContext('2d');
    ink.fillStyle = '#fff'; // transparent, it would weigh four times as much
    ink.fillRect(0, 0, 840, 416);
    document.querySelectorAll('.lab-run canvas').forEach((canvas, k) => {
      ink.drawImage(canvas, 424 * k, 0, 416, 416);
    });
    return both.toDataURL('image/webp', 0.8).split(',')[1];
  });
  writeFileSync(join(folder, 'still.webp'), Buffer.from(picture, 'base64'));
  await close(still);
}

// Speed: 2000 particles under the exact score of 16 components, a step and a picture a frame

if (wanted('--speed')) {
  const components = Array.from({ length: 16 }, (_, k) => [
    0.0625,
    (k % 4) - 1.5,
    Math.floor(k / 4) - 1.5,
    0.2,
    0.1,
    10 * k,
  ]);
  const fast = await open(`target=plane&n=2000&a.n_steps=120&components=${components.map(String).join(';')}`);
  await computed(fast);
  const session = await fast.context().newCDPSession(fast);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const work = async () =>
    // seconds of processor time that the page's main thread has had
    (await session.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration').value;
  const measured = await fast.evaluate(async () => {
    const { page, score, run } = sdelib;
    const target = run.target_of(page.state());
    const sde = sdelib.sde.VPSDE();
    const x = target.sample(2000, sdelib.random.generator(0));
    const exact = score.exact_score(sde, target);
    const time = (f) => {
      const begun = performance.now();
      for (let i = 0; i < 50; i++) f(0.3 + 1e-4 * i);
      return (performance.now() - begun) / 50;
    };
    function bare() {
      // as many exponentials and products, and nothing else
      let sum = 0;
      for (let i = 0; i < 2000; i++)
        for (let k = 0; k < 16; k++) sum += Math.exp(-((x[2 * i] - k) ** 2 + (x[2 * i + 1] - k) ** 2) / 50);
      return sum;
    }
    time((t) => exact(x, t));
    time(bare);
    return { own: time((t) => exact(x, t)), loop: time(bare) };
  });
  const before = await work();
  const seconds = await fast.evaluate(async () => {
    const { page } = sdelib;
    const begun = performance.now();
    page.arrive(location.hash.slice(1));
    page.film.go(0, true);
    while (page.film.at() === 1 && document.querySelector('.lab-film input').value < 120)
      await new Promise(requestAnimationFrame);
    return (performance.now() - begun) / 1000;
  });
  const each = (1000 * ((await work()) - before)) / 121;
  if (each > 1000 / 30) problem(`a picture takes ${each.toFixed(1)} ms, too many for 30 a second`);
  const { own, loop } = measured;
  console.log(`a score of 2000 points and 16 components: ${own.toFixed(2)} ms, a bare loop ${loop.toFixed(2)} ms`);
  console.log(
    `121 pictures and their steps: ${each.toFixed(1)} ms of processor time each; shown in ${seconds.toFixed(1)} s`,
  );
  await close(fast);
}

await browser.close();
console.log(`${count()} problems`);
process.exit(count() ? 1 : 0);
