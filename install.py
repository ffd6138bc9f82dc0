"""Nothing to install: the extension needs torch, numpy, gradio and PIL, which every WebUI brings."""
