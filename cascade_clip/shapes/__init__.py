"""The drawn world `shapes`: seeded scenes of things on stuff, with pixel-exact labels and captions.

`vocabulary` names the classes, `textures` and `things` draw them, `scenes` composes a scene, `captions` words it and
`prepare` writes a prepared dataset. Everything is a function of seeds; nothing here needs a network.
"""
