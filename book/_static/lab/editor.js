/* The target under the reader's hand: components that are dragged and stretched, a drawing, by pointer or by keys. */
(() => {
  const { settings, draw } = sdelib;
  const { element } = sdelib.controls;
  const PAPER = 1.35; // half the width of what can be drawn on
  const MARGIN = 0.05;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const between = (low, value, high) => Math.min(Math.max(value, low), high);
  const hundredth = (value) => Math.round(100 * value) / 100;

  /** A canvas for the state's target. `hand` has the chosen component's number; `moved` is called after each move of a
   * component, `done` after a change that is complete, `say` with notes. */
  function editor(state, hand, { moved, done, say }) {
    const mixture = state.target === 'plane';
    const list = state.components.plane;
    const canvas = element('canvas', { className: 'lab-editor', tabIndex: 0, role: 'application' });
    canvas.setAttribute(
      'aria-label',
      mixture
        ? 'The mixture: arrow keys move the chosen component, the controls below set the rest'
        : 'Draw with the pointer, or move the pen with the arrow keys and press Space for a point',
    );
    canvas.dataset.key = 'editor';
    let grip = null; // what the pointer holds: 'pen', 'middle', 'length' or 'width'
    let pen = null; // where the keys have moved it
    let held = 0; // the window's half width while something is dragged

    const reach = () => (mixture ? held || between(2, sdelib.run.reach_of(sdelib.run.target_of(state)), 4.6) : PAPER);

    function redraw() {
      const law = mixture || state.points.length ? sdelib.run.target_of(state) : null;
      const what = mixture ? { components: list, chosen: hand.chosen } : { points: state.points, pen };
      draw.editor(canvas, law, reach(), what);
    }

    function place(event) {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      return [(2 * x - 1) * reach(), (1 - 2 * y) * reach()];
    }

    function add(at) {
      const point = at.map((v) => hundredth(between(-PAPER + MARGIN, v, PAPER - MARGIN)));
      const last = state.points.at(-1);
      if (grip && last && Math.hypot(point[0] - last[0], point[1] - last[1]) < 0.04) return;
      if (state.points.length < settings.MOST.points) state.points.push(point);
      else say([`a drawing has at most ${settings.MOST.points} points`]);
    }

    /** What is at a place: a handle of the chosen component, or the middle of the nearest. */
    function at_hand(at) {
      const distance = ([x, y]) => Math.hypot(at[0] - x, at[1] - y) / reach();
      const handle = draw.handles(list[hand.chosen]).findIndex((spot) => distance(spot) < 0.11);
      if (handle >= 0) return handle ? 'width' : 'length';
      const distances = list.map(({ x, y }) => distance([x, y]));
      const nearest = distances.indexOf(Math.min(...distances));
      if (distances[nearest] > 0.25) return null;
      hand.chosen = nearest;
      return 'middle';
    }

    function drag(what, [x, y]) {
      const component = list[hand.chosen];
      const within = (name, value) => {
        const { low, high } = settings.COMPONENT.plane[name];
        return between(low, hundredth(value), high);
      };
      if (what === 'middle') [component.x, component.y] = [within('x', x), within('y', y)];
      else {
        const [dx, dy] = [x - component.x, y - component.y];
        component[what] = within(what, Math.hypot(dx, dy) / 2);
        const angle = (Math.atan2(dy, dx) * 180) / Math.PI - (what === 'width' ? 90 : 0);
        component.turn = Math.round(angle < -180 ? angle + 360 : angle);
      }
      moved();
    }

    canvas.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      canvas.focus();
      held = reach();
      grip = mixture ? at_hand(place(event)) : 'pen';
      if (grip === 'pen') add(place(event));
      redraw();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!grip) return;
      if (grip === 'pen') add(place(event));
      else drag(grip, place(event));
      redraw();
    });
    for (const end of ['pointerup', 'pointercancel'])
      canvas.addEventListener(end, () => {
        held = 0;
        if (grip) done();
        grip = null;
        redraw();
      });
    canvas.addEventListener('keydown', (event) => {
      const move = ARROWS[event.key];
      const dot = !mixture && (event.key === ' ' || event.key === 'Enter');
      if (!move && !dot) return;
      event.preventDefault();
      if (mixture) {
        const { x, y } = list[hand.chosen];
        drag('middle', [x + 0.1 * move[0], y + 0.1 * move[1]]);
      } else {
        pen ??= [0, 0];
        if (move) pen = pen.map((v, i) => between(-PAPER + MARGIN, v + 0.05 * move[i], PAPER - MARGIN));
        else add(pen);
      }
      if (!move || mixture) done();
      redraw();
    });
    canvas.addEventListener('contextrestored', redraw);
    return { canvas, redraw };
  }

  sdelib.editor = { editor };
})();
