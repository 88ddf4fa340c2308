"use strict";
// The face that one can turn: meshes and lamps come with the page, as JSON; see tasks/rendering/face_viewer.py.
(() => {
  const held = document.getElementById("heads");
  if (!held) return;
  const heads = JSON.parse(held.textContent);
  const canvas = document.getElementById("head"), choice = document.getElementById("face");
  const coloured = document.getElementById("coloured"), fault = document.getElementById("head-fault");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl) {
    fault.textContent = "This browser draws no WebGL 2, so the face cannot be turned here.";
    return;
  }

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  // ------------------------------------------------------------------------------------------------ light
  const VERTEX = `#version 300 es
    in vec3 position; in vec3 normal; in vec4 skin; in float open;
    uniform mat3 turn; uniform float zoom;
    out vec3 facing; out vec4 tone; out float sky;
    void main() {
      vec3 p = turn * position * zoom;
      facing = turn * normal; tone = skin; sky = open;
      gl_Position = vec4(p.xy, -0.3 * p.z, 1.0);
    }`;
  // As tasks/rendering/lighting.py lights clay; y is up here and down there.
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec3 facing; in vec4 tone; in float sky;
    uniform vec3 towards[4]; uniform vec3 colour[4]; uniform vec3 above; uniform vec3 below; uniform vec3 clay;
    uniform vec2 hollow; uniform float gloss; uniform float sharpness; uniform float lift; uniform float photograph;
    out vec4 pixel;
    void main() {
      vec3 n = normalize(facing);
      float inner = 1.0;
      if (!gl_FrontFacing) { n = -n; inner = 0.35; }
      float dim = 0.25 + 0.75 * sky, relief = mix(hollow.x, hollow.y, tone.a);
      float rim = pow(1.0 - clamp(n.z, 0.0, 1.0), 2.0);
      vec3 lamps = max(dot(n, towards[0]), 0.0) * colour[0] + max(dot(n, towards[1]), 0.0) * colour[1]
        + rim * max(dot(n, towards[2]), 0.0) * colour[2] + rim * max(dot(n, towards[3]), 0.0) * colour[3];
      vec3 around = mix(below, above, 0.5 + 0.5 * n.y) * sky;
      vec3 light = relief * (around + dim * lamps);
      float shine = dim * relief * gloss * pow(max(dot(n, normalize(towards[0] + vec3(0, 0, 1))), 0.0), sharpness);
      vec3 lit = min(clay * light + shine, 1.0);
      lit = lit * (1.0 + lift - lift * lit);
      vec3 skin = tone.rgb * mix(vec3(1.0), min(light, 1.3), 0.25);
      pixel = vec4(inner * mix(lit, skin, photograph), 1.0);
    }`;

  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const uniform = (name) => gl.getUniformLocation(program, name);
  gl.uniform3fv(uniform("towards"), heads.light.towards.flat());
  gl.uniform3fv(uniform("colour"), heads.light.colour.flat());
  for (const name of ["above", "below", "clay"]) gl.uniform3fv(uniform(name), heads.light[name]);
  gl.uniform2fv(uniform("hollow"), heads.light.relief);
  for (const name of ["gloss", "sharpness", "lift"]) gl.uniform1f(uniform(name), heads.light[name]);

  // ----------------------------------------------------------------------------------------------- meshes
  const n = heads.vertices;
  const triangles = new Uint32Array(n > 65535 ? bytes(heads.triangles).buffer : new Uint16Array(bytes(heads.triangles).buffer));
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
  const buffers = {};
  const fill = (name, data, size, type, normalised) => {
    const place = gl.getAttribLocation(program, name);
    buffers[name] ??= gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, normalised, 0, 0);
  };
  fill("open", bytes(heads.openness), 1, gl.UNSIGNED_BYTE, true);

  const normals = (p) => {
    const out = new Float32Array(3 * n);
    for (let t = 0; t < triangles.length; t += 3) {
      const [a, b, c] = [3 * triangles[t], 3 * triangles[t + 1], 3 * triangles[t + 2]];
      const u = [p[b] - p[a], p[b + 1] - p[a + 1], p[b + 2] - p[a + 2]];
      const v = [p[c] - p[a], p[c + 1] - p[a + 1], p[c + 2] - p[a + 2]];
      const w = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) out[corner + k] += w[k];
    }
    for (let i = 0; i < out.length; i += 3) {
      const length = Math.hypot(out[i], out[i + 1], out[i + 2]) || 1;
      for (let k = 0; k < 3; k++) out[i + k] /= length;
    }
    return out;
  };

  let yaw = 0, pitch = 0, zoom = 1, pose = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const show = (number) => {
    const face = heads.faces[number];
    const position = Float32Array.from(new Int16Array(bytes(face.mesh).buffer), (v) => v / 32767);
    fill("position", position, 3, gl.FLOAT, false);
    fill("normal", normals(position), 3, gl.FLOAT, false);
    fill("skin", bytes(face.skin), 4, gl.UNSIGNED_BYTE, true);
    choice.value = String(number);
    look("photograph");
  };

  // ---------------------------------------------------------------------------------------------- turning
  const product = (a, b) =>
    [0, 1, 2].flatMap((i) => [0, 1, 2].map((j) => a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j]));
  const turned = () => {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return product([1, 0, 0, 0, cp, -sp, 0, sp, cp], product([cy, 0, sy, 0, 1, 0, -sy, 0, cy], pose));
  };
  let waiting = false;
  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const side = Math.round(canvas.clientWidth * devicePixelRatio);
      if (canvas.width !== side) canvas.width = canvas.height = side;
      gl.viewport(0, 0, side, side);
      gl.enable(gl.DEPTH_TEST);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.uniformMatrix3fv(uniform("turn"), true, turned());
      gl.uniform1f(uniform("zoom"), zoom);
      gl.uniform1f(uniform("photograph"), coloured.checked ? 1 : 0);
      gl.drawElements(gl.TRIANGLES, triangles.length, gl.UNSIGNED_INT, 0);
    });
  };
  const look = (view) => {
    const face = heads.faces[Number(choice.value)];
    pose = view === "photograph" ? face.rotation : [1, 0, 0, 0, 1, 0, 0, 0, 1];
    yaw = { left: -Math.PI / 2, right: Math.PI / 2 }[view] ?? 0;
    pitch = 0;
    draw();
  };
  const nearer = (factor) => {
    zoom = Math.min(6, Math.max(0.5, zoom * factor));
    draw();
  };

  const STEP = Math.PI / 24;
  const KEYS = {
    ArrowLeft: () => { yaw -= STEP; }, ArrowRight: () => { yaw += STEP; },
    ArrowUp: () => { pitch -= STEP; }, ArrowDown: () => { pitch += STEP; },
    "+": () => nearer(1.15), "=": () => nearer(1.15), "-": () => nearer(1 / 1.15),
    0: () => { zoom = 1; look("photograph"); },
  };
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    draw();
  });
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const before = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      nearer(spread() / Math.max(before, 1));
      return;
    }
    yaw += ((event.clientX - last[0]) / canvas.clientWidth) * Math.PI;
    pitch += ((event.clientY - last[1]) / canvas.clientWidth) * Math.PI;
    draw();
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    nearer(Math.exp(-event.deltaY / 500));
  }, { passive: false });
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => look(button.dataset.view));
  for (const button of document.querySelectorAll("[data-face]"))
    button.addEventListener("click", () => {
      show(Number(button.dataset.face));
      canvas.scrollIntoView({ block: "center" });
      canvas.focus({ preventScroll: true });
    });
  choice.addEventListener("change", () => show(Number(choice.value)));
  coloured.addEventListener("change", draw);
  new ResizeObserver(draw).observe(canvas);
  show(0);
})();
