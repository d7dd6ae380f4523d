// Hold the laboratory to the library, in a headless browser:
//
// - truth: what book/_static/lab computes is what sdelib computes, to 1e-5 relative, case by case (lab_golden.json);
// - mutants: with one constant changed in a script, cases fail, among them the named one.
//
//   make test-lab                                        after `make book`
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { here, launch, problems } from './browser.mjs';

const lab = resolve(here, '../../book/_static/lab');
const cases = JSON.parse(readFileSync(join(here, 'lab_golden.json'), 'utf8'));
const MATHEMATICS = 'sde mixtures data score steps samplers wrong metrics face learned digits digits_weights'.split(
  ' ',
);
const built = resolve(here, '../../_build/html/_static/lab'); // what a build adds: the digits' weights
const source = (name) => readFileSync(join(name === 'digits_weights' ? built : lab, `${name}.js`), 'utf8');

// script, what to change, into what, a case that must fail
const MUTANTS = [
  ['sde', '-int_beta(t) / 2', '-int_beta(t)', 'alpha(t), VPSDE(beta_min=0.1, beta_max=20.0)'],
  ['sde', 'Math.sqrt(2 * log_ratio)', 'Math.sqrt(log_ratio)', 'g(t), VESDE(sigma_min=0.01, sigma_max=50.0)'],
  ['sde', '-2 * int_beta(t)', '-int_beta(t)', 'g(t), SubVPSDE(beta_min=0.1, beta_max=20.0)'],
  [
    'sde',
    'alpha_end = 1e-3 } = {}) {\n    const fall = 1 -',
    'alpha_end = 1e-3 } = {}) {\n    const fall = 1.0001 -',
    'alpha(t), FlowSDE(alpha_end=0.001)',
  ],
  [
    'mixtures',
    '(dx * px[k] + dy * py[k]) / 2',
    '(dx * px[k] + dy * py[k]) / 1.9999',
    'score of plane at 0.3, VPSDE(beta_min=0.1, beta_max=20.0)',
  ],
  [
    'steps',
    '(1 + eta ** 2) / 2',
    '(1 + eta) / 2',
    'euler_maruyama, eta 1.7, plane, VPSDE(beta_min=0.1, beta_max=20.0)',
  ],
  ['steps', 'times(2 - r, x)', 'times(1 / r, x)', 'reverse_diffusion, line, VPSDE(beta_min=0.1, beta_max=20.0)'],
  [
    'steps',
    '2 * (snr * s.sigma) ** 2',
    '(snr * s.sigma) ** 2',
    'ancestral and annealed_langevin, snr 0.3, 2 steps, line, VPSDE(beta_min=0.1, beta_max=20.0)',
  ],
  [
    'samplers',
    '1 + h / (2 * h_last)',
    '1 + h / (2.001 * h_last)',
    'dpm_solver_2m, line, VPSDE(beta_min=0.1, beta_max=20.0)',
  ],
  ['samplers', 'correction[j] - (j ?', 'correction[j] - (j > 1 ?', 'adams, line, VPSDE(beta_min=0.1, beta_max=20.0)'],
  ['samplers', 'bend = 0.02', 'bend = 0.021', 'grid log_linear, VPSDE(beta_min=0.1, beta_max=20.0)'],
  ['metrics', '(2 * xy) / (n * m)', 'xy / (n * m)', 'energy_distance'],
  ['metrics', 'Math.floor(n * p) + 1', 'Math.floor(n * p)', 'wasserstein'],
  [
    'learned',
    'scale * ((alpha / sigma) * value - u[i])',
    'scale * (alpha * value - u[i])',
    "the face's network at 0.1",
  ],
  ['data', '[0.36, 0.22, 0.2, 25, 155]', '[0.36, 0.22, 0.21, 25, 155]', 'smile_curve'],
  ['mixtures', 'my[k] + (uy * gap) / spread', 'my[k] + (ux * gap) / spread', 'condition on coordinate 0'],
  ['score', '(1 - scale) * s + scale', 's + scale', 'classifier_free at 4.0, VPSDE(beta_min=0.1, beta_max=20.0)'],
  [
    'score',
    'const k = sde.alpha(tau) /',
    'const k = 1 /',
    "the face's network, translated, at 0.5, FlowSDE(alpha_end=0.01)",
  ],
  ['digits', 'h[i] * (1 + film[c])', 'h[i] * (1.0001 + film[c])', "the digits' network at 0.2, label 3"],
  ['digits', 'Math.log(w) - ', 'Math.log(w) + ', "the digits' network at 0.2, label 10"],
  ['score', '(alpha * y - x[i])', '(y - x[i])', 'inpaint, VPSDE(beta_min=0.1, beta_max=20.0)'],
  [
    'wrong',
    'Math.exp(-sde.int_beta(t))',
    'Math.exp(-sde.int_beta(t) / 2)',
    'wrong: shrink_twice, VPSDE(beta_min=0.1, beta_max=20.0)',
  ],
];

/** Runs in the page: the names of the cases that fail, with their largest error in units of what is allowed. */
function failures(all) {
  const { data, sde, mixtures, score, guidance, steps, samplers, metrics, learned, digits, wrong } = sdelib;
  const { walk } = samplers;
  const flat = (dim, weights, means, covs) => mixtures.GaussianMixture({ dim, weights, means, covs });
  const curve = data.smile_curve(Array.from({ length: 40 }, (_, i) => (i + 0.5) / 40));
  const TARGETS = {
    line: flat(1, [0.5, 0.5], [-3, 3], [0.25, 1]),
    plane: flat(2, [0.2, 0.3, 0.5], [-1, 0.5, 1, -0.3, 0.2, 1.4], [0.2, 0.05, 0.1, 0.1, -0.06, 0.15, 0.04, 0, 0.4]),
    face: mixtures.from_points(curve, 2, 0.1),
  };
  const step = (f, options) => (s, x, t, r, noise) => f(s, x, t, r, noise, options);
  const SOLVERS = {
    'euler_maruyama, eta 0': walk(step(steps.euler_maruyama, { eta: 0 })),
    ddim: walk(steps.ddim),
    heun: walk(steps.heun),
    rk4: walk(steps.rk4),
    dpm_solver_2m: samplers.dpm_solver_2m,
    adams: samplers.adams(),
    'adams, order 3, scale 0.7, reach inf': samplers.adams({ order: 3, scale: 0.7, reach: Infinity }),
    euler_maruyama: walk(steps.euler_maruyama),
    'euler_maruyama, eta 1.7': walk(step(steps.euler_maruyama, { eta: 1.7 })),
    reverse_diffusion: walk(steps.reverse_diffusion),
    ancestral: walk(steps.ancestral),
    'ancestral and annealed_langevin, snr 0.3, 2 steps': walk(
      steps.ancestral,
      step(steps.annealed_langevin, { snr: 0.3, n_steps: 2 }),
    ),
  };
  const wave = () => {
    let count = 0;
    return (x) => Float64Array.from(x, () => 1.4 * Math.sin(12.9898 * ++count));
  };
  const ticks = [-2.5, -0.4, 0.3, 2];
  const lattice = (dim) =>
    dim === 1
      ? Float64Array.from({ length: 9 }, (_, i) => -6 + 1.5 * i)
      : Float64Array.from(ticks.flatMap((a) => ticks.flatMap((b) => [a, b])));
  const drawn = (n, scale = 1) => steps.times(scale, wave()(new Float64Array(n)));
  const solve = (c, process, s, dim) => {
    const ts = [...samplers[c.grid ?? 'log_linear'](process, c.n_steps ?? 10, 1e-3), 0];
    const solver = SOLVERS[c.solver] ?? walk(wrong.steps[c.solver]);
    let last;
    for (last of solver(s, drawn(5 * dim, process.sigma(1)), process.path(ts), wave()));
    return last;
  };
  const COMPUTE = {
    smile_curve: () => curve,
    shrunk: (c, p) => score.exact_score(wrong.shrink_twice(p), TARGETS.plane)(lattice(2), c.t),
    narrow: () => wrong.deviation_for_variance(TARGETS.plane).log_prob(lattice(2)),
    formula: (c, p) => c.at.map(p[c.formula]),
    grid: (c, p) => samplers[c.grid](p, 7, 1e-3),
    log_prob: (c, p, law) => law.perturb(p.alpha(c.t), p.sigma(c.t)).log_prob(lattice(law.dim)),
    score: (c, p, law) => score.exact_score(p, law)(lattice(law.dim), c.t),
    solve: (c, p, law) => solve(c, p, score.exact_score(p, law), law.dim),
    'solve learned': (c, p) => solve(c, p, learned.smile_score(), 2),
    guided: (c, p) => {
      const part = score.exact_score(p, TARGETS.plane.component(c.label));
      return guidance.classifier_free(part, score.exact_score(p, TARGETS.plane), c.scale)(lattice(2), c.t);
    },
    inpainted: (c, p) => guidance.inpaint(score.exact_score(p, TARGETS.plane), p, c.y, 0)(lattice(2), c.t),
    'inpainted wrong': (c, p) =>
      wrong.mean_from_the_noisy_state(score.exact_score(p, TARGETS.plane), p, c.y, 0)(lattice(2), c.t),
    conditioned: (c) => TARGETS.plane.condition(c.coordinate, c.y, c.std).log_prob(lattice(2)),
    cdf: (_c, _p, law) => law.cdf(lattice(1)),
    quantile: (c, _p, law) => law.quantile(c.levels),
    wasserstein: (c, _p, law) => Object.values(metrics.wasserstein(drawn(c.n, 3), law.quantile, 2000)),
    energy_distance: (c) => {
      const points = drawn(2 * (c.n + c.m));
      return Object.values(metrics.energy_distance(points.slice(0, 2 * c.n), points.slice(2 * c.n)));
    },
    translated: (c, p) => score.translate(learned.smile_score(), sde.VPSDE(), p)(lattice(2), c.t),
    learned: (c) => learned.smile_score()(lattice(2), c.t),
    digits: (c) => digits.digits_score(c.label)(drawn(2 * digits.PIXELS), c.t),
  };
  const found = [];
  for (const c of all) {
    const process = c.sde && sde[c.sde.name](c.sde.parameters);
    const got = [...COMPUTE[c.what](c, process, TARGETS[c.target])];
    const largest = Math.max(...c.out.map(Math.abs));
    const errors = c.out.map(
      (wanted, i) => Math.abs(got[i] - wanted) / (1e-5 * Math.abs(wanted) + 1e-9 * largest + Number.MIN_VALUE),
    );
    const worst = Math.max(...errors.map((e) => (Number.isNaN(e) ? Infinity : e)));
    if (got.length !== c.out.length || worst > 1) found.push({ name: c.name, worst });
  }
  return found;
}

const browser = await launch();
const { problem, count } = problems();

/** The failing cases with the scripts as `read` gives them. */
async function compared(read) {
  const page = await browser.newPage();
  for (const name of MATHEMATICS) await page.addScriptTag({ content: read(name) });
  const found = await page.evaluate(failures, cases);
  await page.close();
  return found;
}

for (const { name, worst } of await compared(source))
  problem(`differs from sdelib, ${worst.toPrecision(3)} times the tolerance: ${name}`);
console.log(`${cases.length} values of the library computed again`);

const mutants = process.argv.includes('--quick') ? [] : MUTANTS;
for (const [script, from, to, named] of mutants) {
  if (source(script).split(from).length < 2) problem(`nothing to change in ${script}.js: ${from}`);
  const found = await compared((name) => (name === script ? source(name).replace(from, to) : source(name)));
  if (!found.some(({ name }) => name === named))
    problem(`not caught by "${named}": ${script}.js with ${to} for ${from}`);
}
console.log(`${mutants.length} changed constants, each caught by name`);

await browser.close();
console.log(`${count()} problems`);
process.exit(count() ? 1 : 0);
