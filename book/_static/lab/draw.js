/* Pictures of a run at a place of the film, on a square canvas whose unit is its side. */
(() => {
  const [BLUE, ORANGE, GREEN, GREY] = ['59, 130, 196', '224, 123, 57', '58, 157, 110', '128, 128, 128']; // as sdelib/plotting.py
  const colour = (rgb, alpha = 1) => `rgba(${rgb}, ${alpha})`;

  /** Half the window's width at a time: the data's own, scaled, and three standard deviations of the noise. */
  const window_at = (sde, t, reach) => Math.hypot(sde.alpha(t) * reach, 3 * sde.sigma(t));

  /** The density on a lattice of `side` rows, from the top, of a window; largest value 1. */
  function lattice_density(law, reach, side) {
    const { mx, my, xx, xy, yy } = law.parts;
    const at = Float64Array.from({ length: side }, (_, i) => (((i + 0.5) / side) * 2 - 1) * reach);
    let out = new Float64Array(side * side);
    if (xy.every((v) => v === 0)) {
      // a product of what depends on x and on y
      for (let k = 0; k < mx.length; k++) {
        const height = law.weights[k] / Math.sqrt(xx[k] * yy[k]);
        const along = at.map((x) => Math.exp((-0.5 * (x - mx[k]) ** 2) / xx[k]));
        for (let j = 0; j < side; j++) {
          const factor = height * Math.exp((-0.5 * (at[j] - my[k]) ** 2) / yy[k]);
          if (factor < 1e-9 * height) continue;
          const row = (side - 1 - j) * side;
          for (let i = 0; i < side; i++) out[row + i] += factor * along[i];
        }
      }
    } else {
      const points = new Float64Array(2 * side * side);
      for (let j = 0; j < side; j++)
        for (let i = 0; i < side; i++) points.set([at[i], at[side - 1 - j]], 2 * (j * side + i));
      out = law.log_prob(points).map(Math.exp);
    }
    const most = out.reduce((a, b) => Math.max(a, b), 0) || 1;
    return out.map((v) => v / most);
  }

  /** A lattice of numbers from 0 to 1 as a blue picture. */
  function shaded(values, width, height) {
    const picture = new ImageData(width, height);
    const [r, g, b] = BLUE.split(',').map(Number);
    for (let i = 0; i < values.length; i++) picture.data.set([r, g, b, 190 * values[i] ** 0.7], 4 * i);
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext('2d').putImageData(picture, 0, 0);
    return canvas;
  }

  /** A line through points. */
  function trace(ink, points, stroke, width) {
    ink.beginPath();
    for (const [x, y] of points) ink.lineTo(x, y);
    [ink.strokeStyle, ink.lineWidth] = [stroke, width];
    ink.stroke();
  }

  function arrow(ink, x, y, dx, dy) {
    const length = Math.hypot(dx, dy);
    if (length < 0.004) return;
    const [ux, uy, head] = [dx / length, dy / length, Math.min(0.013, length / 2)];
    ink.moveTo(x, y);
    ink.lineTo(x + dx, y + dy);
    for (const side of [-1, 1]) {
      ink.moveTo(x + dx, y + dy);
      ink.lineTo(x + dx - head * (ux + 0.6 * side * uy), y + dy - head * (uy - 0.6 * side * ux));
    }
  }

  /** A canvas made ready: as many pixels as the screen has, the unit its side; nothing where it is not shown, as on paper. */
  function prepared(canvas) {
    if (!canvas.clientWidth) return null;
    const side = Math.max(1, Math.round(canvas.clientWidth * Math.min(devicePixelRatio, 2)));
    if (canvas.width !== side) [canvas.width, canvas.height] = [side, side];
    const ink = canvas.getContext('2d');
    ink.setTransform(side, 0, 0, side, 0, 0);
    ink.clearRect(0, 0, 1, 1);
    [ink.lineCap, ink.lineJoin] = ['round', 'round'];
    return ink;
  }

  const radius_of = (ink, size) => Math.max(size, 1.2 / ink.canvas.clientWidth); // still seen where the canvas is small

  function dots(ink, n, place, size, fill) {
    const radius = radius_of(ink, size);
    ink.beginPath();
    for (let i = 0; i < n; i++) {
      const [x, y] = place(i);
      ink.moveTo(x + radius, y);
      ink.arc(x, y, radius, 0, 7);
    }
    ink.fillStyle = fill;
    ink.fill();
  }

  const sheet = document.createElement('canvas');
  /** Thousands of dots, pixel by pixel: browsers take tens of milliseconds to fill as many circles. */
  function cloud(ink, n, place, size, rgb, alpha) {
    const side = ink.canvas.width;
    if (sheet.width !== side) [sheet.width, sheet.height] = [side, side];
    const picture = new ImageData(side, side);
    const paper = new Uint32Array(picture.data.buffer);
    const [r, g, b] = rgb.split(',').map(Number);
    const radius = radius_of(ink, size) * side;
    const shades = []; // of the pixels around the middle: as opaque as the disc covers them, about
    const reach = Math.ceil(radius);
    for (let dy = -reach; dy <= reach; dy++)
      for (let dx = -reach; dx <= reach; dx++) {
        const cover = Math.min(Math.max(radius + 0.5 - Math.hypot(dx, dy), 0), 1);
        if (cover > 0) shades.push([dy * side + dx, Math.round(255 * alpha * cover)]);
      }
    for (let i = 0; i < n; i++) {
      const [x, y] = place(i);
      const [column, row] = [Math.round(x * side), Math.round(y * side)];
      if (!(column >= reach && row >= reach && column < side - reach && row < side - reach)) continue;
      for (const [offset, shade] of shades) {
        const at = row * side + column + offset;
        if (shade > paper[at] >>> 24) paper[at] = ((shade << 24) | (b << 16) | (g << 8) | r) >>> 0;
      }
    }
    sheet.getContext('2d').putImageData(picture, 0, 0);
    ink.drawImage(sheet, 0, 0, 1, 1);
  }

  /** Text in pixels: letters of a size below one would stand on each other. */
  function words(ink, text, x, y, align, size = 0.034) {
    const side = ink.canvas.width;
    ink.save();
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.font = `${Math.max(size * side, 11 * (side / ink.canvas.clientWidth))}px sans-serif`;
    ink.textAlign = align;
    const style = getComputedStyle(ink.canvas);
    [ink.strokeStyle, ink.lineWidth, ink.lineJoin] = [style.backgroundColor, 0.011 * side, 'round'];
    ink.strokeText(text, x * side, y * side);
    ink.fillStyle = style.color;
    ink.fillText(text, x * side, y * side);
    ink.restore();
  }

  const round = (value) => Number(value.toPrecision(2));

  /** The plane: the density of the target's law, the run's score as arrows, and the particles of state i. */
  function plane(canvas, run, i, { density, arrows, keep }) {
    const ink = prepared(canvas);
    if (!ink) return;
    const t = run.ts[i];
    const [alpha, sigma] = [run.sde.alpha(t), run.sde.sigma(t)];
    const R = window_at(run.sde, t, run.reach);
    const [px, py] = [(x) => 0.5 + x / (2 * R), (y) => 0.5 - y / (2 * R)];
    const shown = run.free === undefined ? run.law : run.target;
    if (density) {
      const side = shown.parts.xy.every((v) => v === 0) ? 110 : 56;
      const picture = keep(`density ${i}`, () =>
        shaded(lattice_density(shown.perturb(alpha, sigma), R, side), side, side),
      );
      ink.drawImage(picture, 0, 0, 1, 1);
    }
    if (arrows) {
      const n = canvas.clientWidth < 260 ? 9 : 13;
      const time = Math.max(t, run.ts.at(run.backward ? -2 : 1));
      const field = keep(`arrows ${i} ${n}`, () => {
        const at = new Float64Array(2 * n * n);
        for (let k = 0; k < n * n; k++)
          at.set([((((k % n) + 0.5) / n) * 2 - 1) * R, (((Math.floor(k / n) + 0.5) / n) * 2 - 1) * R], 2 * k);
        return [at, run.score(at, time)];
      });
      const noise = run.sde.sigma(time);
      ink.beginPath();
      for (let k = 0; k < n * n; k++) {
        const [sx, sy] = [field[1][2 * k] * noise, field[1][2 * k + 1] * noise];
        const size = Math.hypot(sx, sy);
        if (!Number.isFinite(size)) continue;
        const length = (0.3 * Math.tanh(size / 2)) / n / (size || 1); // a third of a cell to each side, at most
        const [x, y] = [px(field[0][2 * k]), py(field[0][2 * k + 1])];
        arrow(ink, x - sx * length, y + sy * length, 2 * sx * length, -2 * sy * length);
      }
      ink.strokeStyle = colour(GREY, 0.75);
      ink.lineWidth = 0.0028;
      ink.stroke();
    }
    const x = run.states[i];
    cloud(ink, x.length / 2, (k) => [px(x[2 * k]), py(x[2 * k + 1])], 0.0052, ORANGE, 0.85);
    if (run.free !== undefined) known(ink, run, x, t, px, py, R);
    words(ink, `±${round(R)}`, 0.985, 0.045, 'right', 0.03);
    words(ink, `t = ${t.toFixed(3)}`, 0.02, 0.975, 'left');
  }

  /** Inpainting: the known coordinate's line, and at the edge the law that the free one should have beside its points. */
  function known(ink, run, x, t, px, py, R) {
    const [alpha, sigma] = [run.sde.alpha(t), run.sde.sigma(t)];
    const across = run.free === 1;
    const law = run.law.perturb(alpha, sigma);
    const bins = 60;
    const counts = new Float64Array(bins);
    for (let k = run.free; k < x.length; k += 2) {
      const bin = Math.floor(((x[k] / R + 1) / 2) * bins);
      if (bin >= 0 && bin < bins) counts[bin] += 1;
    }
    const at = Float64Array.from({ length: bins }, (_, b) => (((b + 0.5) / bins) * 2 - 1) * R);
    const wanted = law.log_prob(at).map((v) => Math.exp(v) * ((2 * R) / bins) * (x.length / 2));
    const most = Math.max(...wanted, ...counts) || 1;
    const put = (b, height) => {
      const place = (b + 0.5) / bins;
      return across ? [(0.16 * height) / most, 1 - place] : [place, 1 - (0.16 * height) / most];
    };
    const [edge_x, edge_y] = [px(alpha * run.run.value), py(alpha * run.run.value)];
    ink.setLineDash([0.012, 0.012]);
    const edge = [0, 1].map((end) => (across ? [edge_x, end] : [end, edge_y]));
    trace(ink, edge, colour(GREEN), 0.004);
    ink.setLineDash([]);
    ink.fillStyle = colour(ORANGE, 0.55);
    for (let b = 0; b < bins; b++) {
      const [a, c] = put(b, counts[b]);
      if (across) ink.fillRect(0, c - 0.5 / bins, a, 1 / bins);
      else ink.fillRect(a - 0.5 / bins, c, 1 / bins, 1 - c);
    }
    const curve = Array.from(wanted, (height, b) => put(b, height));
    trace(ink, curve, colour(BLUE), 0.006);
  }

  /** The line: paths through the film over the density at each of its times; below, the particles beside the density. */
  function line(canvas, run, i, { density, arrows, keep, frames, frame }) {
    const ink = prepared(canvas);
    if (!ink) return;
    const [top, base] = [0.6, 0.94]; // the film's height, the histogram's foot
    const R = frames.map((t) => window_at(run.sde, t, run.reach));
    const [columns, rows] = [frames.length, 90];
    if (density) {
      const picture = keep('film', () => {
        const values = new Float64Array(columns * rows);
        frames.forEach((t, c) => {
          const law = run.law.perturb(run.sde.alpha(t), run.sde.sigma(t));
          const column = law.log_prob(
            Float64Array.from({ length: rows }, (_, r) => (1 - ((r + 0.5) / rows) * 2) * R[c]),
          );
          const most = column.reduce((a, b) => Math.max(a, b));
          for (let r = 0; r < rows; r++) values[r * columns + c] = Math.exp(column[r] - most);
        });
        return shaded(values, columns, rows);
      });
      ink.drawImage(picture, 0, 0, 1, top);
    }
    const place = keep('places', () => run.ts.map((t) => film_place(frames, t)));
    const windows = keep('windows', () => run.ts.map((t) => window_at(run.sde, t, run.reach)));
    const y = (k, j) => (top / 2) * (1 - run.states[j][k] / windows[j]);
    ink.save();
    ink.beginPath();
    ink.rect(0, 0, 1, top);
    ink.clip();
    ink.beginPath();
    for (let k = 0; k < Math.min(40, run.states[0].length); k++)
      for (let j = 0; j <= i; j++) j ? ink.lineTo(place[j], y(k, j)) : ink.moveTo(place[0], y(k, 0));
    ink.strokeStyle = colour(ORANGE, 0.6);
    ink.lineWidth = 0.002;
    ink.stroke();
    dots(ink, Math.min(40, run.states[i].length), (k) => [Math.min(place[i], 0.995), y(k, i)], 0.006, colour(ORANGE));
    if (arrows) {
      const at = frames[frame];
      const heights = Float64Array.from({ length: 15 }, (_, k) => (1 - ((k + 0.5) / 15) * 2) * R[frame]);
      const time = Math.max(at, 1e-3);
      const field = keep(`arrows ${frame}`, () => run.score(heights, time));
      const x = Math.min(Math.max(frame / (columns - 1), 0.012), 0.988);
      ink.beginPath();
      heights.forEach((h, k) => {
        const size = field[k] * run.sde.sigma(time);
        const from = (top / 2) * (1 - h / R[frame]);
        if (Number.isFinite(size)) arrow(ink, x, from, 0, -0.035 * Math.tanh(size / 2));
      });
      ink.strokeStyle = colour(GREY, 0.9);
      ink.lineWidth = 0.003;
      ink.stroke();
    }
    ink.restore();
    histogram(ink, run, i, windows[i], top + 0.04, base);
    const t = run.ts[i];
    words(ink, `t = ${t.toFixed(3)}`, 0.02, top + 0.07, 'left');
    for (const [x, sign] of [
      [0.02, -1],
      [0.5, 0],
      [0.98, 1],
    ])
      words(ink, String(round(sign * windows[i])), x, 0.985, ['left', 'center', 'right'][sign + 1], 0.03);
  }

  /** Images in rows, with the noise's growth taken out: dark where the level is high. */
  function digits(canvas, run, i) {
    const ink = prepared(canvas);
    if (!ink) return;
    const [t, x] = [run.ts[i], run.states[i]];
    const scale = Math.hypot(run.sde.alpha(t), run.sde.sigma(t));
    const [n, side] = [x.length / run.dim, Math.sqrt(run.dim)];
    const columns = Math.ceil(Math.sqrt(n));
    const [r, g, b] = getComputedStyle(canvas)
      .color.match(/[\d.]+/g)
      .map(Number);
    ink.imageSmoothingEnabled = false;
    for (let k = 0; k < n; k++) {
      const picture = new ImageData(side, side);
      for (let p = 0; p < run.dim; p++) {
        const level = (x[k * run.dim + p] / scale + 1) / 2;
        picture.data.set([r, g, b, 255 * Math.min(Math.max(level, 0), 1)], 4 * p);
      }
      [sheet.width, sheet.height] = [side, side];
      sheet.getContext('2d').putImageData(picture, 0, 0);
      const [column, row] = [k % columns, Math.floor(k / columns)];
      ink.drawImage(sheet, (column + 0.04) / columns, (row + 0.04) / columns, 0.92 / columns, 0.92 / columns);
    }
    words(ink, `t = ${t.toFixed(3)}`, 0.02, 0.975, 'left');
  }

  function histogram(ink, run, i, R, top, base) {
    const x = run.states[i];
    const bins = 64;
    const counts = new Float64Array(bins);
    for (const value of x) {
      const bin = Math.floor(((value / R + 1) / 2) * bins);
      if (bin >= 0 && bin < bins) counts[bin] += 1;
    }
    const fine = 192;
    const at = Float64Array.from({ length: fine }, (_, b) => (((b + 0.5) / fine) * 2 - 1) * R);
    const law = run.law.perturb(run.sde.alpha(run.ts[i]), run.sde.sigma(run.ts[i]));
    const wanted = law.log_prob(at).map((v) => Math.exp(v) * ((2 * R) / bins) * x.length);
    const most = Math.max(...wanted.map((v) => 1.15 * v), ...counts) || 1;
    const height = (v) => base - ((base - top) * v) / most;
    ink.fillStyle = colour(ORANGE, 0.6);
    for (let b = 0; b < bins; b++)
      ink.fillRect(b / bins, height(counts[b]), 1 / bins - 0.001, base - height(counts[b]));
    const curve = Array.from(wanted, (v, b) => [(b + 0.5) / fine, height(v)]);
    trace(ink, curve, colour(BLUE), 0.006);
  }

  /** Where in the film, from 0 to 1, a time lies. */
  function film_place(frames, t) {
    const falling = frames[0] > frames.at(-1);
    const before = (time) => (falling ? time > t : time < t);
    let f = frames.findIndex((time) => !before(time));
    if (f < 0) f = frames.length - 1;
    if (f === 0) return 0;
    const share = (t - frames[f - 1]) / (frames[f] - frames[f - 1]);
    return (f - 1 + share) / (frames.length - 1);
  }

  /** The target to be edited: its density, and handles on the chosen component, or the pen's points. */
  function editor(canvas, law, reach, { components, chosen, points, pen }) {
    const ink = prepared(canvas);
    if (!ink) return;
    const place = (x, y) => [0.5 + x / (2 * reach), 0.5 - y / (2 * reach)];
    if (law) ink.drawImage(shaded(lattice_density(law, reach, 90), 90, 90), 0, 0, 1, 1);
    if (points && !points.length) words(ink, 'draw here', 0.5, 0.5, 'center', 0.07);
    if (points) dots(ink, points.length, (k) => place(...points[k]), 0.008, colour(ORANGE));
    if (pen) {
      const [x, y] = place(...pen);
      ink.beginPath();
      ink.moveTo(x - 0.03, y);
      ink.lineTo(x + 0.03, y);
      ink.moveTo(x, y - 0.03);
      ink.lineTo(x, y + 0.03);
      ink.strokeStyle = colour(GREEN);
      ink.lineWidth = 0.008;
      ink.stroke();
    }
    components?.forEach((c, k) => {
      const [x, y] = place(c.x, c.y);
      const own = k === chosen;
      ink.beginPath();
      ink.ellipse(x, y, c.length / reach, c.width / reach, (-c.turn * Math.PI) / 180, 0, 7); // two standard deviations
      ink.strokeStyle = colour(own ? ORANGE : GREY, own ? 1 : 0.8);
      ink.lineWidth = own ? 0.009 : 0.005;
      ink.stroke();
      const spots = own ? [[c.x, c.y], ...handles(c)] : [[c.x, c.y]];
      dots(ink, spots.length, (s) => place(...spots[s]), own ? 0.022 : 0.014, colour(own ? ORANGE : GREY));
    });
  }

  /** The ends of a component's two axes, at two standard deviations. */
  function handles({ x, y, length, width, turn }) {
    const [c, s] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
    return [
      [x + 2 * length * c, y + 2 * length * s],
      [x - 2 * width * s, y + 2 * width * c],
    ];
  }

  sdelib.draw = { plane, line, digits, editor, handles };
})();
