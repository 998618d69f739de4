"""Cheap screens of recipes: does a way of using labels, or another net, add to two views alone?"""
