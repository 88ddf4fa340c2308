"""A glTF file as three.js shows it in a headless Chromium, from disk. None of it comes with the project.

`npm install three` in the repository's root, playwright and a Chromium are needed: what asks for them skips without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import headless_browser
import pytest
from conftest import ROOT

THREE = ROOT / "node_modules/three"
_PAGE = """<!doctype html><meta charset="utf-8"><style>body{margin:0}</style>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import {GLTFLoader} from "/three/examples/jsm/loaders/GLTFLoader.js";
const renderer = new THREE.WebGLRenderer({preserveDrawingBuffer: true});
renderer.setSize(300, 300);
document.body.append(renderer.domElement);
new GLTFLoader().load("/mesh.glb", ({scene, animations}) => {
  const mixer = new THREE.AnimationMixer(scene);
  animations.forEach(each => mixer.clipAction(each).play());
  mixer.setTime(0);
  const box = new THREE.Box3().setFromObject(scene), middle = box.getCenter(new THREE.Vector3());
  const side = Math.max(...box.getSize(new THREE.Vector3()).toArray());
  const camera = new THREE.PerspectiveCamera(40, 1, side / 10, side * 10);
  camera.position.set(middle.x, middle.y, middle.z + 1.6 * side);
  const world = new THREE.Scene();
  world.add(scene, new THREE.AmbientLight(0xffffff, 3));
  let vertices = 0, morphs = 0;
  scene.traverse(each => {
    if (each.isMesh) {
      vertices += each.geometry.attributes.position.count;
      morphs += each.morphTargetInfluences?.length ?? 0;
    }
  });
  window.show = seconds => { mixer.setTime(seconds); renderer.render(world, camera); };
  window.show(0);
  window.told = {vertices, morphs, seconds: animations.map(each => each.duration)};
}, undefined, fault => { window.told = {fault: String(fault)}; });
</script>"""


@contextmanager
def shown(mesh: Path) -> Iterator[tuple[Any, dict[str, Any], list[str]]]:
    """A tab that shows a mesh, what three.js tells of it, and what the console said."""
    if not THREE.is_dir():
        pytest.skip("three.js is not here")
    with headless_browser.launched() as browser:
        tab, said = browser.new_page(), []
        tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda fault: said.append(str(fault)))
        tab.route("http://page/**", lambda route: _serve(route, mesh))
        tab.goto("http://page/")
        tab.wait_for_function("window.told")
        yield tab, tab.evaluate("window.told"), said


def _serve(route: Any, mesh: Path) -> None:
    path = route.request.url.removeprefix("http://page/")
    if path == "":
        route.fulfill(body=_PAGE, content_type="text/html")
    elif path == "mesh.glb":
        route.fulfill(path=mesh, content_type="model/gltf-binary")
    elif path.startswith("three/"):
        route.fulfill(path=THREE / path.removeprefix("three/"), content_type="text/javascript")
    else:
        route.fulfill(status=204)
