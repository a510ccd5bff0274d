"""The parts of the network: encoders, quantizer, perturbation, decoders, adapter, priors and their wiring."""
