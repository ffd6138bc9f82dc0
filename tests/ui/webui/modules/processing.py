from dataclasses import dataclass

opt_f = 8


@dataclass
class StableDiffusionProcessingTxt2Img:
    """Cuts nothing."""

    width: int
    height: int
    enable_hr: bool
    hr_scale: float
    hr_resize_x: int
    hr_resize_y: int
    truncate_x: int = 0
    truncate_y: int = 0

    def calculate_target_resolution(self):
        self.hr_upscale_to_x = self.hr_resize_x or int(self.width * self.hr_scale)
        self.hr_upscale_to_y = self.hr_resize_y or int(self.height * self.hr_scale)
