/* The film: one or two runs shown at the same place in time, computed while it plays. */
(() => {
  const { settings, draw } = sdelib;
  const { element } = sdelib.controls;
  const N_FRAMES = 121;
  const [FRAME, WORK] = [30, 12]; // milliseconds: the least from picture to picture, and the most to compute for each

  /** Pictures with a line of facts each, a slider and a button; `moved` is called when the reader, or the end, stops it. */
  function film({ moved }) {
    const panels = ['A', 'B'].map((name) => {
      const canvas = element('canvas', { role: 'img' });
      const facts = element('span', { className: 'lab-facts' });
      const title = element('strong');
      const figure = element('figure', { className: 'lab-run' }, canvas, element('figcaption', {}, title, facts));
      canvas.addEventListener('contextrestored', () => draw_all());
      return { name, canvas, facts, title, figure, ready: 0 };
    });
    const stage = element('div', { className: 'lab-stage' }, ...panels.map((panel) => panel.figure));
    const play = element('button', { type: 'button', className: 'lab-play' });
    const place = element('input', { type: 'range', min: 0, max: N_FRAMES - 1, step: 1, value: 0 });
    const bar = element('div', { className: 'lab-film' }, play, element('label', {}, 'time ', place));
    let [state, runs, frames, kept] = [null, [], [], []];
    let [playing, seen, awake, drawn] = [false, true, false, 0];

    /** Show a state's runs, from now on and at the same place. */
    function show(of) {
      state = of;
      runs = (state.compare ? [state.a, state.b] : [state.a]).map((run) => sdelib.run.begin(state, run));
      frames = sdelib.run.film_times(runs[0].sde, state.direction, N_FRAMES);
      kept = runs.map(() => new Map());
      panels[1].figure.hidden = !state.compare;
      wake();
    }

    /** Go to a place from 0 to 1, and play on from it or stand. */
    function go(fraction, on) {
      place.value = Math.round(fraction * (N_FRAMES - 1));
      playing = on;
      wake();
    }

    function wake() {
      play.textContent = playing ? 'Pause' : 'Play';
      drawn = 0;
      if (!awake) requestAnimationFrame(tick);
      awake = true;
    }

    /** Compute for a while, move on if the film plays, draw what has changed. */
    function tick(now) {
      awake = seen && (playing || runs.some((run) => !run.done));
      const busy = runs.filter((run) => !run.done);
      if (seen) for (const run of busy) run.advance(WORK / busy.length);
      if (now - drawn >= FRAME) {
        if (playing && seen) step();
        draw_all(now);
      }
      if (awake) requestAnimationFrame(tick);
      else for (const k of runs.keys()) measure(k, now, true);
    }

    function step() {
      const next = +place.value + 1;
      if (next === N_FRAMES) stop();
      else if (runs.every((run) => run.done || run.states.length > run.due(frames[next]))) place.value = next;
    }

    function stop() {
      playing = false;
      play.textContent = 'Play';
      moved();
    }

    function draw_all(now = performance.now()) {
      if (!state) return; // the first run waits for its network
      drawn = now;
      const frame = +place.value;
      place.setAttribute('aria-valuetext', `t = ${frames[frame].toFixed(3)}`);
      runs.forEach((run, k) => {
        const keep = (key, make) => {
          if (!kept[k].has(key)) kept[k].set(key, make());
          return kept[k].get(key);
        };
        const { density, arrows } = state;
        draw[run.kind](panels[k].canvas, run, run.reached(frames[frame]), { density, arrows, frames, frame, keep });
        measure(k, now, false);
      });
    }

    /** Under a picture: where the run stands, what it cost, and how far it is from the law at its time. */
    function measure(k, now, must) {
      const [run, panel] = [runs[k], panels[k]];
      const i = run.reached(frames[+place.value]);
      const same = panel.run === run && panel.i === i;
      if (same || (!must && now < panel.ready)) return;
      const begun = performance.now();
      const facts = words(run, i);
      panel.ready = now + 100 + 3 * (performance.now() - begun); // a slow machine measures less often
      [panel.run, panel.i] = [run, i];
      panel.title.textContent = state.compare ? `${panel.name} ` : '';
      panel.facts.textContent = facts;
      const what = `${settings.TARGETS[state.target]}, ${run.states[0].length / run.dim} ${run.kind === 'digits' ? 'images' : 'particles'}`;
      panel.canvas.setAttribute('aria-label', `${what} at t = ${run.ts[i].toFixed(3)}: ${facts}`);
    }

    function words(run, i) {
      const cost = run.backward ? `step ${i} of ${run.ts.length - 1}, ${run.calls[i]} score calls · ` : '';
      return `${cost}${run.facts(i)}${run.note && ` · ${run.note}`}`;
    }

    play.addEventListener('click', () => {
      go(!playing && +place.value === N_FRAMES - 1 ? 0 : +place.value / (N_FRAMES - 1), !playing);
      if (!playing) moved();
    });
    place.addEventListener('input', () => {
      go(+place.value / (N_FRAMES - 1), false);
      moved();
    });
    new IntersectionObserver((entries) => {
      seen = entries.at(-1).isIntersecting;
      if (seen && state) wake();
    }).observe(stage);
    new ResizeObserver(() => state && draw_all()).observe(stage);
    return {
      stage,
      bar,
      show,
      go,
      look: wake,
      /** The place in the film, 1 while it plays. */
      at: () => (playing ? 1 : Number((+place.value / (N_FRAMES - 1)).toFixed(3))),
      runs: () => runs,
    };
  }

  sdelib.film = { film };
})();
