"""What itermix.webui.ui and its routes import of a WebUI, as little as they need."""
