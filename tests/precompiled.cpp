// The precompiled headers need a target, and this a source.
