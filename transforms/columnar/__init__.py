"""The engine room: kernels, arrays, hashes and money; no Beam, no words of the business."""
