/* The network of chapter 8, the face: MLP, Fourier features and ResidualScore of sdelib/networks.py and sdelib/learned.py.
   Its weights are those of sdelib/weights/smile.safetensors, in `face.js`. */
(() => {
  /** Weights by name, from their sizes and numbers of single precision in base64. */
  function tensors_of({ shapes, data }) {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const numbers = new Float32Array(bytes.buffer);
    let start = 0;
    const parts = Object.entries(shapes).map(([name, size]) => {
      start += size;
      return [name, numbers.subarray(start - size, start)];
    });
    return Object.fromEntries(parts);
  }

  const silu = (x) => x / (1 + Math.exp(-x));

  /** Weight (n_out rows of n_in) times h, plus bias, into out; two rows at a time, which is faster. */
  function linear(weight, bias, h, out) {
    const n_in = h.length;
    for (let j = 0; j < out.length; j += 2) {
      let a = bias[j];
      let b = bias[j + 1];
      let at = j * n_in;
      let below = at + n_in;
      for (let i = 0; i < n_in; i++) {
        a += weight[at++] * h[i];
        b += weight[below++] * h[i];
      }
      out[j] = a;
      out[j + 1] = b;
    }
  }

  /** States u of unit variance and a time to what the network adds: layers of width `width`, the last of width 2. */
  function MLP({ frequencies, waves, layers }) {
    const [n_features, n_waves] = [frequencies.length, waves.length / 2];
    const h = new Float64Array(3 + 2 * n_features + 2 * n_waves);
    const outs = layers.map(({ bias }) => new Float64Array(bias.length));
    return (u, t) => {
      h[2] = 2 * t - 1;
      frequencies.forEach((frequency, k) => {
        const phase = 2 * Math.PI * t * frequency;
        h[3 + k] = Math.sin(phase);
        h[3 + n_features + k] = Math.cos(phase);
      });
      const start = 3 + 2 * n_features;
      const out = new Float64Array(u.length);
      for (let i = 0; i < u.length; i += 2) {
        [h[0], h[1]] = [u[i], u[i + 1]];
        for (let k = 0; k < n_waves; k++) {
          const phase = 2 * Math.PI * (waves[2 * k] * h[0] + waves[2 * k + 1] * h[1]);
          h[start + k] = Math.sin(phase);
          h[start + n_waves + k] = Math.cos(phase);
        }
        let at = h;
        layers.forEach((layer, l) => {
          linear(layer.weight, layer.bias, at, outs[l]);
          at = outs[l];
          if (l < layers.length - 1) for (let j = 0; j < at.length; j++) at[j] = silu(at[j]);
        });
        [out[i], out[i + 1]] = at;
      }
      return out;
    };
  }

  /** A score: that of the Gaussian with the data's mean and variance, plus what a network adds, at the gain alpha/sigma. */
  function ResidualScore(net, sde, mean, variance) {
    return (x, t) => {
      const [alpha, sigma] = [sde.alpha(t), sde.sigma(t)];
      const scale = 1 / Math.sqrt(alpha ** 2 * variance + sigma ** 2);
      const u = x.map((value, i) => scale * (value - alpha * mean[i % 2]));
      return net(u, t).map((value, i) => scale * ((alpha / sigma) * value - u[i]));
    };
  }

  let face = null;
  /** The score of chapter 8, under VPSDE(). */
  function smile_score() {
    if (face) return face;
    const tensors = tensors_of(sdelib.face);
    const layers = Object.keys(tensors)
      .filter((name) => /^net\.layers\.\d+\.weight$/.test(name))
      .map((name) => ({ weight: Float64Array.from(tensors[name]), bias: tensors[name.replace('weight', 'bias')] }));
    const net = MLP({ frequencies: tensors['net.time.frequencies'], waves: tensors['net.waves.frequencies'], layers });
    face = ResidualScore(net, sdelib.sde.VPSDE(), tensors.mean, tensors.variance[0]);
    return face;
  }

  sdelib.learned = { smile_score, tensors_of, silu };
})();
