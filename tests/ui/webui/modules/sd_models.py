from types import SimpleNamespace

model_data = SimpleNamespace(sd_model=None)
infos = {
    name: SimpleNamespace(name_for_extra=name, shorthash=letter * 10, hash=letter * 8)
    for name, letter in (("one", "a"), ("other", "b"))
}
get_closet_checkpoint_match = infos.get
