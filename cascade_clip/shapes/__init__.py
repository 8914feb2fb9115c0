"""The drawn world `shapes`: seeded scenes of things on stuff, with pixel-exact labels and captions.

`classes` holds the classes and words captions, `textures` draws stuff, `things` draws things, `scenes` composes a
scene and `prepare` writes a prepared dataset. Everything is a function of seeds; nothing here needs a network.
"""
