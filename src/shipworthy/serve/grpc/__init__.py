"""The gRPC services: what each method answers, against the seam in ``serve.calls``; no socket, no HTTP/2.

``services.services`` puts them together: the Open Inference Protocol with the extensions of Triton, the prediction and
model services of TensorFlow Serving, health and reflection.
"""
