"""How Farshore itself comes back: its own database kept in a store, and a catalogue rebuilt from manifests alone."""
