"""What other people's programs make of our objects: decoders of segmentations, and OHIF."""
