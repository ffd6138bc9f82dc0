import os
from types import SimpleNamespace

cmd_opts = SimpleNamespace(api=False, api_auth=None, ui_config_file=os.path.join(os.environ["ITERMIX_DATA"], "ui.json"))
opts = SimpleNamespace(img2img_fix_steps=False, sd_model_checkpoint="one")
