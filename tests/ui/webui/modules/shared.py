from types import SimpleNamespace

cmd_opts = SimpleNamespace(api=False, api_auth=None)
opts = SimpleNamespace(img2img_fix_steps=False)
