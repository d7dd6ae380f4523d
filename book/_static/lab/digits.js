/* The network of chapter 9, digits: UNet of sdelib/networks.py and MixtureResidualScore of sdelib/learned.py, for images of
   8 by 8 pixels. Its weights are many, and fetched when they are first needed: see `load`. */
(() => {
  const { tensors_of, silu } = sdelib.learned;
  const [SIDE, PIXELS] = [8, 64];
  const ANY = 10; // the label that says that none is known

  /** A matrix times each of `area` vectors that stand one after another, plus bias: channel after channel. */
  function product({ weight, bias }, vectors, area) {
    const n_in = vectors.length / area;
    const out = new Float64Array(bias.length * area);
    for (let o = 0; o < bias.length; o += 4) {
      // four rows at a time, which is faster; rows beyond the last repeat it
      const [a, b, c, d] = [0, 1, 2, 3].map((k) => Math.min(o + k, bias.length - 1));
      for (let p = 0; p < area; p++) {
        let [sum_a, sum_b, sum_c, sum_d] = [bias[a], bias[b], bias[c], bias[d]];
        let [i, j, k, l] = [a * n_in, b * n_in, c * n_in, d * n_in];
        for (let at = p * n_in; at < (p + 1) * n_in; at++) {
          const value = vectors[at];
          sum_a += weight[i++] * value;
          sum_b += weight[j++] * value;
          sum_c += weight[k++] * value;
          sum_d += weight[l++] * value;
        }
        out[a * area + p] = sum_a;
        out[b * area + p] = sum_b;
        out[c * area + p] = sum_c;
        out[d * area + p] = sum_d;
      }
    }
    return out;
  }

  /** The channels at each place, from images channel after channel. */
  function mixed(part, x, area = 1) {
    const n_in = x.length / area;
    return product(
      part,
      Float64Array.from({ length: x.length }, (_, i) => x[(i % n_in) * area + Math.floor(i / n_in)]),
      area,
    );
  }

  /** A convolution of 3 by 3 with zero padding: a matrix times the patch around each pixel. */
  function convolved(part, x, side) {
    const area = side ** 2;
    const n_in = x.length / area;
    const patches = new Float64Array(9 * x.length);
    for (let c = 0; c < n_in; c++)
      for (let tap = 0; tap < 9; tap++) {
        const [down, right] = [Math.floor(tap / 3) - 1, (tap % 3) - 1];
        for (let row = Math.max(0, -down); row < side - Math.max(0, down); row++)
          for (let column = Math.max(0, -right); column < side - Math.max(0, right); column++)
            patches[((row * side + column) * n_in + c) * 9 + tap] = x[c * area + (row + down) * side + column + right];
      }
    return product(part, patches, area);
  }

  /** Mean 0 and variance 1 in each of eight groups of channels, then a gain and a shift for each channel. */
  function normed({ weight, bias }, x) {
    const area = x.length / bias.length;
    const size = x.length / 8;
    const out = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += size) {
      let [mean, square] = [0, 0];
      for (let i = start; i < start + size; i++) mean += x[i] / size;
      for (let i = start; i < start + size; i++) square += (x[i] - mean) ** 2 / size;
      const scale = 1 / Math.sqrt(square + 1e-5);
      for (let i = start; i < start + size; i++) {
        const c = Math.floor(i / area);
        out[i] = (x[i] - mean) * scale * weight[c] + bias[c];
      }
    }
    return out;
  }

  const sum = (a, b) => a.map((value, i) => value + b[i]);

  /** Two convolutions around a shift and a scale that depend on time and label, and a shortcut. */
  function block(part, x, side, embedding) {
    const film = mixed(part.film, embedding);
    const n_out = film.length / 2;
    const area = side ** 2;
    const h = normed(part.norm_out, convolved(part.conv_in, normed(part.norm_in, x).map(silu), side));
    for (let i = 0; i < h.length; i++) {
      const c = Math.floor(i / area);
      h[i] = h[i] * (1 + film[c]) + film[n_out + c];
    }
    const shortcut = part.shortcut ? mixed(part.shortcut, x, area) : x;
    return sum(shortcut, convolved(part.conv_out, h.map(silu), side));
  }

  /** Half the resolution, by means of four pixels. */
  function halved(x, side) {
    const half = side / 2;
    return Float64Array.from({ length: x.length / 4 }, (_, i) => {
      const [row, column] = [Math.floor(i / half) * 2, (i % half) * 2]; // rows of all channels, one after another
      const at = row * side + column;
      return (x[at] + x[at + 1] + x[at + side] + x[at + side + 1]) / 4;
    });
  }

  /** Twice the resolution, each pixel four times. */
  function doubled(x, side) {
    return Float64Array.from({ length: 4 * x.length }, (_, i) => {
      const [row, column] = [Math.floor(i / (2 * side)), i % (2 * side)];
      return x[Math.floor(row / 2) * side + Math.floor(column / 2)];
    });
  }

  /** Two channels of an image, a time and a label to one channel. */
  function UNet(net) {
    const ticks = Float64Array.from({ length: SIDE }, (_, i) => -1 + (2 * i) / (SIDE - 1));
    const input = new Float64Array(4 * PIXELS);
    for (let i = 0; i < PIXELS; i++) {
      input[2 * PIXELS + i] = ticks[Math.floor(i / SIDE)];
      input[3 * PIXELS + i] = ticks[i % SIDE];
    }
    const { frequencies } = net.time;
    return (u, t, label) => {
      const phases = frequencies.map((frequency) => 2 * Math.PI * t * frequency);
      const waves = Float64Array.of(...phases.map(Math.sin), ...phases.map(Math.cos));
      const time = mixed(net.embed_time, waves);
      const embedding = time.map((value, i) => silu(value + net.embed_label.weight[label * time.length + i]));
      input.set(u);
      const fine = block(net.down, convolved(net.enter, input, SIDE), SIDE, embedding);
      let h = halved(fine, SIDE);
      for (const part of Object.values(net.middle)) h = block(part, h, SIDE / 2, embedding);
      h = doubled(mixed(net.narrow, h, (SIDE / 2) ** 2), SIDE / 2);
      h = block(net.up, sum(h, fine), SIDE, embedding);
      return convolved(net.leave, normed(net.norm, h).map(silu), SIDE);
    };
  }

  /** The mixture's score at one image, given a label: its components' pulls, weighted by responsibility. */
  function mixture_score({ weights, means, variances, axes }, alpha, sigma) {
    const spread = variances.map((v) => alpha ** 2 * v + sigma ** 2);
    const constant = Float64Array.from(weights, (w, k) => {
      const logs = spread.subarray(k * PIXELS, (k + 1) * PIXELS).map(Math.log);
      return Math.log(w) - logs.reduce((a, b) => a + b) / 2;
    });
    return (x, label) => {
      const among = label === ANY ? Array.from(weights.keys()) : [label];
      const found = among.map((k) => {
        const pull = new Float64Array(PIXELS);
        let log_joint = constant[k];
        for (let j = 0; j < PIXELS; j++) {
          let along = 0; // the j-th axis
          for (let i = 0; i < PIXELS; i++)
            along += axes[(k * PIXELS + i) * PIXELS + j] * (x[i] - alpha * means[k * PIXELS + i]);
          const share = along / spread[k * PIXELS + j];
          log_joint -= (along * share) / 2;
          for (let i = 0; i < PIXELS; i++) pull[i] -= axes[(k * PIXELS + i) * PIXELS + j] * share;
        }
        return { log_joint, pull };
      });
      const top = Math.max(...found.map(({ log_joint }) => log_joint));
      const shares = found.map(({ log_joint }) => Math.exp(log_joint - top));
      const total = shares.reduce((a, b) => a + b);
      const out = new Float64Array(PIXELS);
      found.forEach(({ pull }, k) => {
        for (let i = 0; i < PIXELS; i++) out[i] += (shares[k] / total) * pull[i];
      });
      return out;
    };
  }

  /** Parts by name, `net.down.film.weight` as net -> down -> film -> weight. */
  function nested(tensors) {
    const root = {};
    for (const [name, value] of Object.entries(tensors)) {
      const words = name.split('.');
      let at = root;
      for (const word of words.slice(0, -1)) at = at[word] ??= {};
      at[words.at(-1)] = Float64Array.from(value);
    }
    return root;
  }

  let kept = null;
  /** The score of chapter 9 given a label from 0 to 9, or 10 for none: images in a row, under VPSDE(). */
  function digits_score(label = ANY) {
    kept ??= nested(tensors_of(sdelib.digits_weights));
    const { net, variance, ...mixture } = kept;
    const network = UNet(net);
    const sde = sdelib.sde.VPSDE();
    const root = Math.sqrt(variance[0]);
    let [time, start] = [Number.NaN, null];
    return (x, t) => {
      const [alpha, sigma] = [sde.alpha(t), sde.sigma(t)];
      if (t !== time) [time, start] = [t, mixture_score(mixture, alpha, sigma)];
      const std = Math.hypot(alpha * root, sigma);
      const gain = (alpha * root) / (sigma * std);
      const out = new Float64Array(x.length);
      for (let from = 0; from < x.length; from += PIXELS) {
        const image = x.subarray(from, from + PIXELS);
        const known = start(image, label);
        const u = new Float64Array(2 * PIXELS);
        for (let i = 0; i < PIXELS; i++) {
          u[i] = image[i] / std;
          u[PIXELS + i] = (image[i] + sigma ** 2 * known[i]) / alpha / root;
        }
        const added = network(u, t, label);
        for (let i = 0; i < PIXELS; i++) out[from + i] = known[i] + gain * added[i];
      }
      return out;
    };
  }

  const here = document.currentScript?.src ?? '';
  let coming = null;
  /** Fetch the weights, once; a promise. */
  function load() {
    coming ??= new Promise((resolve, reject) => {
      const script = document.createElement('script');
      script.src = here.replace(/digits\.js.*/, 'digits_weights.js');
      script.addEventListener('load', resolve);
      script.addEventListener('error', () => {
        coming = null;
        reject(new Error('the weights of the digits did not come'));
      });
      document.head.append(script);
    });
    return coming;
  }
  const loaded = () => sdelib.digits_weights !== undefined;

  sdelib.digits = { digits_score, load, loaded, PIXELS };
})();
